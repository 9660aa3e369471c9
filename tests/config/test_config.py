"""Configurations compose, and what a user mistypes is answered with what would have been right."""

import pytest

from posegen.config import PosegenConfig, compose, digest, groups, run_name
from posegen.config_types import typed
from posegen.errors import ConfigError
from posegen.feedback.config import FeedbackConfig


def test_every_option_of_every_group_composes():
    for group, options in groups().items():
        if group in ("sweep", "benchmark", "hydra"):
            continue
        for option in options:
            config = compose([f"{group}={option}"])
            assert set(config) == set(PosegenConfig.__dataclass_fields__)


def test_overrides_reach_the_config_and_the_run_name():
    a, b = compose(["noise=mixture", "finetune.steps=7"]), compose(["noise=mixture", "finetune.steps=8"])
    assert a["noise"]["name"] == "mixture"
    assert a["finetune"]["steps"] == 7
    assert digest(a) != digest(b)
    assert run_name(a).startswith("quickstart-seed0-")
    assert run_name(compose(["run.name=mine"])) == "mine"


def test_where_a_run_happens_does_not_change_its_name():
    assert run_name(compose([])) == run_name(compose(["engine.render_actors=2", "run.outputs=elsewhere"]))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("noise=mixtur", ["did you mean 'mixture'", "gaussian"]),
        ("finetune.step=3", ["did you mean 'steps'", "learning_rate"]),
        ("finetune.steps=many", ["many", "Integer"]),
        ("sed=1", ["did you mean 'seed'"]),
        ("experiment=ful", ["did you mean 'full'", "quickstart"]),
        ("seed", ["no override", "key=value"]),
    ],
)
def test_mistakes_are_answered_with_choices(override, words):
    with pytest.raises(ConfigError) as caught:
        compose([override])
    for word in words:
        assert word in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_typed_refuses_unknown_keys_and_wrong_types():
    assert typed(FeedbackConfig, {"weight": 2}, "feedback").weight == 2.0
    with pytest.raises(ConfigError, match="did you mean 'weight'"):
        typed(FeedbackConfig, {"weigth": 2}, "feedback")
    with pytest.raises(ConfigError):
        typed(FeedbackConfig, {"weight": "heavy"}, "feedback")
