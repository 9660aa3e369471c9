"""The store is asked again through MLflow's own client, as the user interface would."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pytest

from posegen.tracking.store.datasets import record
from posegen.tracking.store.mlflow_store import Tracker, TrackingError, quiet_environment
from posegen.tracking.store.names import flatten, param_text, safe_key, scalars

HISTORY = [{"step": step, "loss": 1.0 / (step + 1), "plausibility": {"nearest_rad": 0.1 * step}} for step in range(30)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the module: creating the database takes two seconds."""
    return tmp_path_factory.mktemp("store")


def fresh_client(store: Path):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{store / 'mlflow.db'}")


def test_the_store_is_a_sqlite_file_beside_the_runs(store: Path) -> None:
    tracker = Tracker(store)
    assert tracker.uri == f"sqlite:///{store / 'mlflow.db'}"
    assert (store / "mlflow.db").is_file()
    assert tracker.environment()["MLFLOW_TRACKING_URI"] == tracker.uri
    assert tracker.environment()["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_children_are_found_under_their_parent_after_a_restart(store: Path) -> None:
    def log_everything() -> tuple[str, list[str]]:
        tracker = Tracker(store)
        parent = tracker.run("restart-s0", name="restart")
        children = [parent.child(f"finetune/{arm}", kind="arm") for arm in ("random", "posegen")]
        return parent.id, [child.id for child in children]

    first = log_everything()
    assert log_everything() == first

    client = fresh_client(store)
    found = client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{first[0]}'")
    assert {run.info.run_id for run in found} == set(first[1])
    assert {run.data.tags["posegen.key"] for run in found} == {
        "restart-s0/finetune/random",
        "restart-s0/finetune/posegen",
    }
    assert {run.data.tags["posegen.kind"] for run in found} == {"arm"}


def test_a_history_read_twice_is_no_history_drawn_twice(store: Path) -> None:
    assert Tracker(store).run("twice").curves(HISTORY[:20]) == 40
    resumed = Tracker(store).run("twice")
    assert resumed.curves(HISTORY) == 20  # ten new steps, two scalars each
    assert resumed.curves(HISTORY) == 0

    client = fresh_client(store)
    history = client.get_metric_history(resumed.id, "loss")
    assert [point.step for point in sorted(history, key=lambda p: p.step)] == list(range(30))
    assert sorted(point.value for point in history) == pytest.approx(sorted(1.0 / (step + 1) for step in range(30)))
    nearest = {p.step: p.value for p in client.get_metric_history(resumed.id, "plausibility/nearest_rad")}
    assert nearest[7] == pytest.approx(0.7)


def test_parameters_are_batched_cut_and_survive_a_resume(store: Path) -> None:
    run = Tracker(store).run("parameters")
    config = {"seed": 3, "noise": {"kind": "gaussian", "scales": [1, 2]}, "long": "x" * 9000}
    config |= {f"key_{number}": number for number in range(250)}
    run.params(config)
    run.params({**config, "seed": 4})

    data = fresh_client(store).get_run(run.id).data
    assert len(data.params) == 254
    assert data.params["noise.kind"] == "gaussian"
    assert data.params["noise.scales"] == "[1, 2]"
    assert len(data.params["long"]) == 6000 and data.params["long"].endswith("(9000 characters)")
    assert data.params["seed"] == "3"
    assert data.tags["changed.seed"] == "4"


def test_a_table_written_again_replaces(store: Path, tmp_path: Path) -> None:
    import mlflow

    run = Tracker(store).run("table")
    run.table("benchmarks", {"arm": ["before"], "mpjpe_mm": [np.float32(100.5)]})
    run.table("benchmarks", {"arm": ["before", "posegen"], "mpjpe_mm": [100.5, float("nan")]})

    client = fresh_client(store)
    path = client.download_artifacts(run.id, "benchmarks.json", str(tmp_path))
    assert mlflow.artifacts.load_dict(path) == {
        "columns": ["arm", "mpjpe_mm"],
        "data": [["before", 100.5], ["posegen", None]],
    }
    assert client.get_run(run.id).data.tags["mlflow.loggedArtifacts"].count("benchmarks.json") == 1


def test_images_figures_and_files_are_artefacts(store: Path, tmp_path: Path) -> None:
    from matplotlib.figure import Figure
    from PIL import Image

    run = Tracker(store).run("artefacts")
    image = np.zeros((8, 12, 3), np.uint8)
    image[2, 5] = (10, 200, 30)
    run.image(image, "gallery/one.png")
    run.figure(Figure(figsize=(1, 1)), "plots/empty.png")
    (tmp_path / "report.html").write_text("<p>report</p>")
    run.artifact(tmp_path / "report.html")
    rows = record("posegen", "0123abcd", "generated", {"uri": "here"}, {"pose": "binary"}, {"num_rows": 128})
    run.dataset(rows, "training")
    run.dataset(rows, "training")

    client = fresh_client(store)
    assert {item.path for item in client.list_artifacts(run.id)} == {"gallery", "plots", "report.html"}
    stored = Image.open(client.download_artifacts(run.id, "gallery/one.png", str(tmp_path)))
    assert stored.size == (12, 8) and stored.getpixel((5, 2)) == (10, 200, 30)
    (used,) = client.get_run(run.id).inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("posegen", "0123abcd")
    assert used.dataset.profile == '{"num_rows": 128}' and "pose" in used.dataset.schema


def test_a_run_is_closed_as_it_ended(store: Path) -> None:
    tracker = Tracker(store)
    with tracker.run("well"):
        pass
    with pytest.raises(KeyboardInterrupt), tracker.run("interrupted"):
        raise KeyboardInterrupt
    with pytest.raises(ValueError), tracker.run("broken"):
        raise ValueError("the first line\nthe second")

    client = fresh_client(store)
    runs = {run.data.tags["posegen.key"]: run for run in client.search_runs(["1"])}
    assert [runs[key].info.status for key in ("well", "interrupted", "broken")] == ["FINISHED", "KILLED", "FAILED"]
    assert runs["broken"].data.tags["posegen.failure"] == "the first line"
    assert tracker.run("interrupted").id == runs["interrupted"].info.run_id
    assert client.get_run(runs["interrupted"].info.run_id).info.status == "RUNNING"


def test_a_worker_attaches_by_id(store: Path) -> None:
    tracker = Tracker(store)
    run = tracker.run("attached")
    Tracker(store, uri=tracker.uri).attach(run.id).metrics({"loss": 2.0}, step=5)
    (point,) = fresh_client(store).get_metric_history(run.id, "loss")
    assert (point.step, point.value) == (5, 2.0)


def test_what_fails_later_does_not_sink_the_run(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = Tracker(store).run("guarded")
    with caplog.at_level(logging.WARNING, logger="posegen.tracking.store.mlflow_store"):
        run.artifact(store / "no-such-file")
        run.artifact(store / "no-such-file")
    (record,) = caplog.records
    assert "no-such-file" in record.getMessage() and "the run goes on" in record.getMessage()


def test_a_dead_server_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError) as caught:
        Tracker(tmp_path)
    assert caught.value.where == "http://127.0.0.1:9"
    assert "unset MLFLOW_TRACKING_URI" in str(caught.value)


def test_the_end_of_a_run_on_a_server_is_not_told_among_our_lines(capsys, monkeypatch) -> None:
    from mlflow.tracking._tracking_service.client import TrackingServiceClient

    for name, value in quiet_environment().items():
        monkeypatch.setenv(name, value)
    TrackingServiceClient("http://127.0.0.1:9")._log_url("a" * 32)
    assert capsys.readouterr().out == ""


def test_names_and_values_are_made_safe() -> None:
    assert safe_key("loss (train)/a#b") == "loss _train_/a_b"
    assert safe_key("../up") == "_/up"
    assert len(safe_key("k" * 400)) == 250
    assert flatten({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "a.c": {}, "d": [1]}
    assert len(param_text("y" * 6001)) == 6000
    numbers = scalars({"a": 1, "b": True, "c": "text", "d": {"e": np.float32(0.5)}, "f": float("nan"), "g": [1]})
    assert set(numbers) == {"a", "d/e", "f"}
    assert numbers["d/e"] == 0.5 and math.isnan(numbers["f"])
