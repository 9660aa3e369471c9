"""An evaluation alone is a run of MLflow as well, in the columns of an arm's figures."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from posegen.benchmarks.measure.result import BenchmarkResult
from posegen.config import compose
from posegen.tracking.store.evaluated import track_evaluation
from posegen.tracking.store.mlflow_store import Tracker


def saved(folder: Path, name: str, errors_mm: list[float]) -> str:
    count = len(errors_mm)
    result = BenchmarkResult(
        benchmark=name, protocol="14 joints; root pelvis", ids=[f"{i}" for i in range(count)], groups=["g"] * count,
        per_image={"mpjpe_mm": np.array(errors_mm)}, azimuth=np.zeros(count), elevation=np.zeros(count),
        metrics={"mpjpe_mm": float(np.mean(errors_mm)), "pve_mm": float("nan")}, counted={"used": count},
        estimator="hmr_small", weights="0123abcd",
    )  # fmt: skip
    return str(result.save_beside(folder / "evaluation", f"hmr_small-{name}"))


def test_each_evaluation_is_a_run_with_figures_data_sets_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = compose([f"run.outputs={tmp_path}", "tracking.experiment=mine"])
    files = {"ski-like": saved(tmp_path, "ski-like", [10.0, 20.0]), "3dpw-like": saved(tmp_path, "3dpw-like", [40.0])}
    command = ["posegen", "evaluate", "suite=embedded", "tracking.uri=postgresql://me:secret@host/db"]
    assert track_evaluation(config, files, command, "the table")
    assert track_evaluation(config, files, command, "the table")
    tracker = Tracker(tmp_path, "mine")
    runs = tracker.client.search_runs([tracker.experiment_id], "tags.`posegen.kind` = 'evaluation'")
    assert len(runs) == 2
    run = runs[0]
    assert run.info.status == "FINISHED"
    figures = {key: value for key, value in run.data.metrics.items() if not np.isnan(value)}
    assert figures == {"ski-like/mpjpe_mm": 15.0, "3dpw-like/mpjpe_mm": 40.0}
    assert (run.data.tags["estimator"], run.data.tags["weights"]) == ("hmr_small", "0123abcd")
    assert run.data.params["estimator.name"] == "hmr_small"
    note = run.data.tags["mlflow.note.content"]
    assert "suite=embedded" in note and "the table" in note and "secret" not in note
    assert {item.dataset.name for item in run.inputs.dataset_inputs} == {"ski-like", "3dpw-like"}
    assert len(tracker.client.list_artifacts(run.info.run_id, "results")) == 2


def test_a_store_that_is_away_is_said_and_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    config = compose([f"run.outputs={tmp_path}", "tracking.uri=http://127.0.0.1:9"])
    with caplog.at_level(logging.WARNING):
        assert not track_evaluation(config, {"ski-like": saved(tmp_path, "ski-like", [1.0])}, ["posegen"], "")
    assert "MLflow was not told of this evaluation" in caplog.text
