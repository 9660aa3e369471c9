"""Whole runs with a target, in this process: every signal, rounds that follow, and estimators without weights."""

from pathlib import Path

import numpy as np
import pytest

from posegen.arms.registry import arm_of
from posegen.config import compose
from posegen.experiment.experiment import Experiment
from posegen.experiment.in_process import InProcess
from posegen.experiment.target_account import target_account

pytestmark = [pytest.mark.usefixtures("assets"), pytest.mark.slow]

SMALL = (
    "experiment=smoke", "target=embedded", "target.embedded=[3dpw-like]", "target.embedded_images=12",
    "++target.lifting={dictionary: 2000}",
)  # fmt: skip
BLIND = """
import numpy as np

def joints(images):
    base = np.random.default_rng(0).normal(size=(1, 12, 3)) * 0.3
    return np.repeat(base, len(images), 0) + images.mean((1, 2, 3))[:, None, None] * 0.1
"""


def experiment(tmp_path: Path, *words: str) -> Experiment:
    config = compose([*SMALL, f"run.outputs={tmp_path}", "run.name=one", *words])
    for arm in config.dataset.arms:
        arm_of(arm).check(config)
    return Experiment(config, InProcess("cpu"))


def test_an_estimator_without_weights_and_gradient_finds_what_it_fails_at(tmp_path, monkeypatch):
    (tmp_path / "blind_estimator.py").write_text(BLIND)
    monkeypatch.syspath_prepend(str(tmp_path))
    run = experiment(
        tmp_path, "estimator=callable", "estimator.options.function=blind_estimator:joints",
        "estimator.options.joint_set=limbs12", "estimator.options.image_size=96", "feedback=score_function",
        "dataset.arms=[anchors,selected_anchors,posegen,weak_labels]",
    )  # fmt: skip
    assert not run.tunes
    for arm in run.arms:
        run.dataset(arm)
    told = target_account(run.target, run.config, {"before": None}, "before")
    assert told is not None and told["reprojection"]["before"]["value"] > 0
    selected = run.run.marker("candidates/posegen")
    assert selected is not None and selected["rendered"] == 96 and selected["chosen_hard"] == 16
    assert run.run.marker("candidates/anchors") is None


@pytest.mark.parametrize(
    "words",
    [
        ("rounds=2", "feedback=progress", "target.follow=error", "finetune.target_share=0.25",
         "dataset.selection.per_anchor=true"),
        ("feedback=agreement", "target.agree_with=blazepose"),
        ("feedback=regret",),
    ],
    ids=["progress", "agreement", "regret"],
)  # fmt: skip
def test_every_signal_makes_a_run_whose_weights_move(tmp_path, words):
    run = experiment(tmp_path, "dataset.arms=[posegen]", *words)
    weights = run.finetune("posegen")
    told = target_account(run.target, run.config, {"before": None, "posegen": weights}, "posegen")
    assert told is not None
    before, after = (told["reprojection"][arm]["value"] for arm in ("before", "posegen"))
    assert np.isfinite(after) and after != before
    again = Experiment(run.config, InProcess("cpu"))
    assert again.finetune("posegen") == weights  # all of it was done before
    assert again.run.marker("generate/posegen") == run.run.marker("generate/posegen")
