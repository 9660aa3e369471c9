"""Configurations compose, and what a user mistypes is answered with what would have been right."""

import contextlib
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import yaml

from posegen.config import PosegenConfig, compose, digest, groups, plain, run_name
from posegen.config.overrides import quoted
from posegen.config.places import check_places
from posegen.config_types import build, typed
from posegen.errors import ConfigError
from posegen.feedback.config import FeedbackConfig


def test_every_option_of_every_group_composes():
    for group, options in groups().items():
        if group in ("sweep", "benchmark", "hydra"):
            continue
        for option in options:
            assert isinstance(compose([f"{group}={option}"]), PosegenConfig)


def test_the_schema_is_frozen_and_holds_what_a_file_says():
    config = compose(["dataset.arms=[random,mocap]", "renderer.subjects=[amber]"])
    assert config.dataset.arms == ("random", "mocap")
    assert build(PosegenConfig, yaml.safe_load(yaml.safe_dump(plain(config)))) == config
    with pytest.raises(FrozenInstanceError):
        config.finetune.steps = 3


def test_overrides_reach_the_config_and_the_run_name():
    a, b = compose(["noise=mixture", "finetune.steps=7"]), compose(["noise=mixture", "finetune.steps=8"])
    assert a.noise.name == "mixture"
    assert a.finetune.steps == 7
    assert digest(a) != digest(b)
    assert run_name(a).startswith("quickstart-seed0-")
    assert run_name(compose(["run.name=mine"])) == "mine"


def test_where_a_run_happens_does_not_change_its_name():
    assert run_name(compose([])) == run_name(compose(["engine.render_actors=2", "run.outputs=elsewhere"]))


@pytest.mark.parametrize("text", ["12e34567", "1e5", "1_000", "true", "0x10", "1.0", "nan", "[a]", "a b", "{x}"])
def test_text_stays_the_text_that_was_typed(text):
    assert compose([f"run.name={text}"]).run.name == text


def test_null_is_nothing_where_nothing_is_allowed():
    assert compose(["run.name=null"]).run.name is None


HARD_PATHS = [
    "/data/SMPL (v1.1.0)", "/a,b", "epoch=3-step=9.ckpt", "/a#b", "/a[1]/x", "it's", 'say "so"', "/home/josé/smpl",
    "C:\\dir\\", "ends with \\'", "{a: b}", "'", "/a/b ",
]  # fmt: skip


@pytest.mark.parametrize("word", ["noise.options={std: 2.0}", "noise.options.std=2.0"])
def test_a_part_that_may_hold_any_key_takes_them_together_and_one_by_one(word):
    assert compose(["noise=mixture", word]).noise.options == {"means": [-10, -5, 0, 5, 10], "std": 2.0}


@pytest.mark.parametrize("path", HARD_PATHS)
def test_paths_are_taken_as_they_are(path):
    config = compose([f"run.outputs={path}", f"estimator.checkpoint={path}", f"body.path={quoted(path)}"])
    assert (config.run.outputs, config.estimator.checkpoint, config.body.path) == (path, path, path)


@pytest.mark.parametrize("path", ["/data/SMPL (v1.1.0)", "/a b#c", "/home/josé/smpl"])
def test_paths_in_free_parts_too(path):
    assert compose([f"benchmark.annotations={path}"]).benchmark["annotations"] == path


def test_home_and_variables_are_expanded_everywhere(monkeypatch):
    monkeypatch.setenv("DATASETS", "/sets")
    config = compose(["body.path=~/smpl", "mocap.path=$DATASETS/amass", "benchmark.images=~/pictures"])
    home = str(Path.home())
    assert config.body.path == f"{home}/smpl"
    assert config.mocap.path == "/sets/amass"
    assert config.benchmark["images"] == f"{home}/pictures"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("noise=mixtur", ["did you mean 'mixture'", "gaussian"]),
        ("finetune.step=3", ["did you mean 'steps'", "learning_rate"]),
        ("finetune.steps=many", ["many", "Integer"]),
        ("sed=1", ["did you mean 'seed'"]),
        ("experiment=ful", ["did you mean 'full'", "quickstart"]),
        ("seed", ["no override", "key=value"]),
        ("finetune.steps=-1", ["finetune.steps", "1 at least"]),
        ("evaluation.images=0", ["1 at least"]),
        ("dataset.images=0", ["1 at least"]),
        ("image_size=7", ["16 at least"]),
        ("adversarial.batch=0", ["1 at least"]),
        ("engine.cpus=-2", ["1 at least"]),
        ("finetune.source_share=1.5", ["1 at most"]),
        ("finetune.learning_rate=0", ["more than 0"]),
        ("finetune.clip=nan", ["nan"]),
        ("body.resolution=lo", ["did you mean 'low'", "full"]),
        ("renderer.backend=warp", ["fused", "eager"]),
    ],
)
def test_mistakes_are_answered_with_choices(override, words):
    with pytest.raises(ConfigError) as caught:
        compose([override])
    for word in words:
        assert word in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_what_one_call_sets_the_next_one_does_not_see():
    plain_one = plain(compose(["experiment=smoke"]))
    changed = compose(["experiment=smoke", "noise.options={std: 2.0}", "benchmark.images=3", "dataset.arms=[random]"])
    assert changed.noise.options == {"std": 2.0} and changed.benchmark == {"images": 3}
    changed.noise.options["std"] = 5.0
    assert plain(compose(["experiment=smoke"])) == plain_one
    assert compose(["experiment=smoke", "noise.options={std: 2.0}"]).noise.options == {"std": 2.0}
    for odd in ("++noise=gaussian", "finetune.steps=1,2", "~noise.dim", "+noise.options.std=3"):  # as Hydra judges them
        with contextlib.suppress(ConfigError):
            compose([odd])
    assert plain(compose(["experiment=smoke"])) == plain_one
    with pytest.raises(ConfigError, match="is not supported"):
        compose(["++noise=gaussian"])


def test_the_word_that_is_wrong_is_named_wherever_it_stands():
    with pytest.raises(ConfigError, match="experiment has no option 'nope'") as refused:
        compose(["experiment=smoke", "seed=1", "experiment=nope"])
    assert refused.value.where == "experiment=nope" and "smoke" in refused.value.choices
    with pytest.raises(ConfigError, match=r"unknown key 'finetune\.stps'; did you mean 'steps'"):
        compose(["experiment=smoke", "finetune.stps=3"])
    with pytest.raises(ConfigError) as refused:
        compose(["experiment=smoke", "seed=x"])
    assert refused.value.where == "seed=x" and refused.value.next_command == "posegen help seed"


def test_places_must_be_there(tmp_path):
    config = compose([f"mocap.path={tmp_path}", f"estimator.checkpoint={tmp_path}/no.pt"])
    with pytest.raises(ConfigError, match=r"estimator\.checkpoint names a file or folder that is not there"):
        check_places(config)
    (tmp_path / "no.pt").touch()
    check_places(config)


def test_typed_refuses_unknown_keys_and_wrong_types():
    assert typed(FeedbackConfig, {"weight": 2}, "feedback").weight == 2.0
    with pytest.raises(ConfigError, match="did you mean 'weight'"):
        typed(FeedbackConfig, {"weigth": 2}, "feedback")
    with pytest.raises(ConfigError):
        typed(FeedbackConfig, {"weight": "heavy"}, "feedback")
    with pytest.raises(ConfigError, match="too small"):
        typed(FeedbackConfig, {"weight": -1.0}, "feedback")


@pytest.mark.parametrize("value", ["true", "3", "null", "{a: 1}"])
def test_a_group_that_is_given_no_name_is_one_of_our_errors(value):
    with pytest.raises(ConfigError, match=r"noise|group|option"):
        compose([f"noise={value}"])


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", ".inf", "1e999"])
def test_numbers_are_finite(value):
    with pytest.raises(ConfigError):
        compose([f"finetune.learning_rate={value}"])
    with pytest.raises(ConfigError, match=r"finetune.weight_decay|finite"):
        compose([f"finetune.weight_decay={value}"])


def test_a_name_too_long_for_the_file_system_is_one_of_our_errors():
    with pytest.raises(ConfigError, match="experiment has no option"):
        compose([f"experiment=a/{'y' * 5000}"])


@pytest.mark.parametrize(
    ("word", "arms"),
    [
        ("dataset.arms=random", ("random",)),
        ("dataset.arms=random, posegen", ("random", "posegen")),
        ("dataset.arms='random'", ("random",)),
        ("dataset.arms=[random,posegen]", ("random", "posegen")),
        ("dataset.arms=", ()),
    ],
)
def test_a_list_needs_no_brackets(word, arms):
    assert compose([word]).dataset.arms == arms


def test_elements_of_a_list_stay_what_was_typed():
    config = compose(["run.kin=12e3,my run", "evaluation.suite={name: 3dpw-like}", "feedback.teachers=[{name: spin}]"])
    assert config.run.kin == ("12e3", "my run")
    assert config.evaluation.suite == ({"name": "3dpw-like"},)
    assert config.feedback.teachers == ({"name": "spin"},)
    assert compose(["evaluation.suite=3dhp-like"]).evaluation.suite == ("3dhp-like",)  # the example of posegen help
