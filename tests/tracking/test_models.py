"""The registry: what is loaded again is what was fine-tuned, and the champion is chosen as the rule says."""

from __future__ import annotations

import io
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from posegen.config import compose
from posegen.errors import CheckpointError
from posegen.tracking.report.run_directory import RunDirectory
from posegen.tracking.store.champion import champion, measured_on, scores
from posegen.tracking.store.mlflow_store import Tracker
from posegen.tracking.store.registered import CHAMPION, DIGEST_TAG, RULE_TAG, SCORE_TAG, SOURCE
from posegen.tracking.store.served import Unpickler, save, served


def test_a_registered_estimator_is_loaded_by_mlflow_and_says_the_same(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    import mlflow

    model = served(compose(["estimator=hmr_small"]), None)
    assert model is not None
    with torch.no_grad():
        next(model.estimator.parameters()).mul_(1.01)  # fine-tuned
    images = np.random.default_rng(0).random((2, 3, 48, 48), dtype=np.float32)
    expected = model(torch.from_numpy(images)).detach()
    save(model, tmp_path / "model", images)
    run = tracker.run("r")

    def send(digest: str, score: float, rule: str = "x", alias: str = CHAMPION) -> None:
        tags = {DIGEST_TAG: digest, RULE_TAG: rule, SCORE_TAG: str(score)}
        run.model(
            tmp_path / "model",
            {"model": "posegen-hmr_small", "label": "hmr_small-posegen", "tags": tags, "aliases": [alias],
             "description": "d"},
        )  # fmt: skip

    send("aa", 0.9)
    send("aa", 0.9)
    send("bb", 1.0, alias=SOURCE)
    assert not tracker.missed
    client = tracker.client
    assert len(client.search_model_versions("name = 'posegen-hmr_small'")) == 2  # told twice, registered once
    mlflow.set_tracking_uri(tracker.uri)
    loaded = mlflow.pytorch.load_model(f"models:/posegen-hmr_small@{CHAMPION}")
    assert torch.equal(loaded(torch.from_numpy(images)), expected)
    assert loaded.estimator.name == "hmr_small"
    info = mlflow.models.get_model_info(f"models:/posegen-hmr_small@{SOURCE}")
    assert info.signature.inputs.inputs[0].shape == (-1, 3, 48, 48)
    assert info.signature.outputs.inputs[0].shape == (-1, *expected.shape[1:])
    assert info.saved_input_example_info is not None

    def digest_of_champion() -> str:
        return client.get_model_version_by_alias("posegen-hmr_small", CHAMPION).tags[DIGEST_TAG]

    send("cc", 0.95)
    assert digest_of_champion() == "aa"  # worse by the same rule on the same data
    send("dd", 0.85)
    assert digest_of_champion() == "dd"
    send("ee", 0.99, rule="other test images")
    assert digest_of_champion() == "ee"


def test_a_models_file_runs_nothing() -> None:
    with pytest.raises(CheckpointError, match=r"os\.system|posix\.system"):
        Unpickler(io.BytesIO(pickle.dumps(__import__("os").system))).load()


def test_the_champion_is_chosen_on_one_half_and_told_on_the_other(finished_run: Path) -> None:
    run = RunDirectory(finished_run)
    found = scores(run)
    assert found["before"].chosen_by == found["before"].told == 1.0
    assert champion(run) == "posegen" == min(found, key=lambda arm: found[arm].chosen_by)
    assert found["posegen"].told != found["posegen"].chosen_by < 0.95
    both = run.paired("before", "posegen")["ski-like"]
    whole = both[1].per_image["mpjpe_mm"].mean() / both[0].per_image["mpjpe_mm"].mean()
    assert 0.5 < whole < 1.0


def test_nothing_wins_where_nothing_helped(finished_run: Path) -> None:
    run = RunDirectory(finished_run)
    for arm, results in run.results.items():
        for name, result in list(results.items()):
            worse = {**result.per_image, "mpjpe_mm": run.results["before"][name].per_image["mpjpe_mm"] * 1.01}
            if arm != "before":
                results[name] = replace(result, per_image=worse)
    assert champion(run) == "before"


def test_scores_of_other_images_are_not_compared(outputs: Path) -> None:
    same = [measured_on(RunDirectory(outputs / name)) for name in ("quickstart-s0", "quickstart-s1", "elsewhere")]
    assert same[0] == same[1] != same[2]
