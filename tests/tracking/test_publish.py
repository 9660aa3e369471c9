"""A run directory in MLflow: found by MLflow's own search, complete, and not doubled by publishing again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from posegen.benchmarks.measure.result import METRICS
from posegen.tracking.store.mlflow_store import Tracker
from posegen.tracking.store.publish import Publisher, publish
from posegen.tracking.store.tracked_run import TrackedRun
from posegen.tracking.store.ui import pages


@pytest.fixture(scope="module")
def published(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A run that was interrupted half-way, went on, and was published twice at its end."""
    outputs = tmp_path_factory.mktemp("published")
    run = Path(shutil.copytree(finished_run, outputs / finished_run.name))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        history = run / "finetune" / "posegen" / "history.jsonl"
        whole = history.read_text()
        history.write_text("\n".join(whole.splitlines()[:25]) + "\n")
        first = Publisher(Tracker(outputs), run)
        first.start({"seed": 0, "noise": {"kind": "gaussian"}}, {"experiment": "quickstart"})
        first.stage("generate/posegen")
        first.arm("posegen")
        first.kill()
        history.write_text(whole)
        identifier = publish(run)
        assert publish(run) == identifier == first.parent.id
        yield run, identifier


def client_of(run: Path):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{run.parent / 'mlflow.db'}")


def test_children_are_found_by_their_parent(published: tuple[Path, str]) -> None:
    run, parent = published
    found = client_of(run).search_runs(["1"], f"tags.`mlflow.parentRunId` = '{parent}'")
    keys = sorted(child.data.tags["posegen.key"] for child in found)
    arms = ["before", "mined_random", "mocap", "no_feedback", "posegen", "random"]
    stages = ["dataset/posegen", "evaluate", "finetune/posegen", "finetune/random", "generate/posegen"]
    assert keys == [f"quickstart-s0/{key}" for key in [f"arm/{a}" for a in arms] + [f"stage/{s}" for s in stages]]
    assert {child.info.status for child in found} == {"FINISHED"}
    assert len(client_of(run).search_runs(["1"])) == 12


def test_curves_go_on_where_they_stopped(published: tuple[Path, str]) -> None:
    run, _ = published
    client = client_of(run)
    (arm,) = client.search_runs(["1"], "tags.`posegen.key` = 'quickstart-s0/arm/posegen'")
    rows = [json.loads(line) for line in (run / "finetune" / "posegen" / "history.jsonl").read_text().splitlines()]
    points = client.get_metric_history(arm.info.run_id, "finetune/loss")
    assert [(p.step, p.value) for p in sorted(points, key=lambda p: p.step)] == [(r["step"], r["loss"]) for r in rows]
    assert len(client.get_metric_history(arm.info.run_id, "generate/error_mm")) == 60


def test_the_numbers_and_files_are_there(published: tuple[Path, str], tmp_path: Path) -> None:
    run, parent = published
    client = client_of(run)
    summary = json.loads((run / "summary.json").read_text())
    (arm,) = client.search_runs(["1"], "tags.`posegen.key` = 'quickstart-s0/arm/mocap'")
    expected = summary["benchmarks"]["ski-like"]["arms"]["mocap"]["mpjpe_mm"]["value"]
    assert arm.data.metrics["ski-like/mpjpe_mm"] == pytest.approx(expected)
    assert arm.data.metrics["dataset/rows"] == 24
    assert [item.path for item in client.list_artifacts(arm.info.run_id, "dataset")] == ["dataset/samples.png"]
    used = {item.dataset.name: item for item in arm.inputs.dataset_inputs}
    assert set(used) == {"quickstart-s0/mocap", *summary["benchmarks"]}
    assert {tag.value for tag in used["ski-like"].tags} == {"evaluation"}
    assert json.loads(used["quickstart-s0/mocap"].dataset.profile)["num_rows"] == 24
    before = {item.dataset.name: item.dataset.digest for item in client.get_run(parent).inputs.dataset_inputs}
    assert before["ski-like"] == used["ski-like"].dataset.digest  # the same test images

    data = client.get_run(parent).data
    assert data.params["noise.kind"] == "gaussian"
    average = summary["average"]["posegen"]["relative_mpjpe"]["value"]
    assert data.metrics["average/posegen/relative_mpjpe"] == pytest.approx(average)
    assert "lowered the error" in data.tags["mlflow.note.content"]
    note = data.tags["mlflow.note.content"]
    assert "What the estimator knew before: source-like 60.0" in note and "| PoseGen |" in note
    paths = {item.path for item in client.list_artifacts(parent)}
    assert {"benchmarks.json", "gallery", "plots", "summary.json", "config.yaml"} <= paths
    table = json.loads(Path(client.download_artifacts(parent, "benchmarks.json", str(tmp_path))).read_text())
    assert len(table["data"]) == 4 * 6 * len(METRICS)
    watched = json.loads(Path(client.download_artifacts(parent, "watched.json", str(tmp_path))).read_text())
    assert [row[0] for row in watched["data"]] == ["source-like"] * 6


def test_at_the_end_nothing_is_read_or_asked_twice(run_copy: Path, tmp_path: Path, monkeypatch) -> None:
    from posegen.shards import reader

    read: list[str] = []
    whole = reader.read_shard
    monkeypatch.setattr(
        reader,
        "read_shard",
        lambda folder, name, *more: (read.append(f"{folder}/{name}"), whole(folder, name, *more))[1],
    )
    tracker = Tracker(tmp_path)
    asked: list[str] = []
    history = tracker.client.get_metric_history
    monkeypatch.setattr(
        tracker.client, "get_metric_history", lambda run, key: (asked.append(key), history(run, key))[1]
    )
    publisher = Publisher(tracker, run_copy)
    publisher.arm("mocap", close=True)
    publisher.finish()
    shards = len(list(run_copy.glob("dataset/*/*.parquet")))
    assert shards >= 10 and not asked  # what the runs that were made here have is known
    # Of each shard the errors, to choose who is shown, then those people, then the errors for all figures.
    assert len(read) <= 3 * shards + len(list(run_copy.glob("dataset/mocap/*.parquet")))
    drawn: list[str] = []
    monkeypatch.setattr(TrackedRun, "image", lambda self, picture, path: drawn.append(path))
    publisher.arm("mocap")
    assert drawn == []
    part = next(run_copy.glob("dataset/mocap/*.parquet"))
    shutil.copy(part, part.with_name("part-99999.parquet"))
    publisher.arm("mocap")
    assert drawn == ["dataset/samples.png"]  # there are more rows
    shutil.copytree(part.parent, part.parent.with_name("mocap-round2"))
    publisher.arm("mocap")
    assert drawn == ["dataset/samples.png"] * 2  # and another round
    used = tracker.client.get_run(publisher.child_arm("mocap").id).inputs.dataset_inputs
    assert "quickstart-s0/mocap-round2" in {item.dataset.name for item in used}
    assert Publisher(Tracker(tmp_path), run_copy).parent.id == publisher.parent.id


def test_an_interrupted_run_is_closed_as_killed(finished_run: Path, tmp_path: Path) -> None:
    publisher = Publisher(Tracker(tmp_path), finished_run)
    child = publisher.child_arm("posegen")
    publisher.kill()
    client = publisher.tracker.client
    assert client.get_run(publisher.parent.id).info.status == client.get_run(child.id).info.status == "KILLED"
    Publisher(Tracker(tmp_path), finished_run).fail("the disk is full")
    assert client.get_run(publisher.parent.id).info.status == "FAILED"


def test_the_pages_worth_opening_are_linked(published: tuple[Path, str]) -> None:
    run, parent = published
    links = dict(pages("http://127.0.0.1:5000/", Tracker(run.parent)))
    assert parent in links["last run, quickstart-s0"]
    compared = links["its arms compared"]
    assert compared.startswith("http://127.0.0.1:5000/#/compare-runs?runs=%5B%22") and compared.count("%22%2C%22") == 5


def test_arms_benchmarks_and_seeds_can_be_filtered_by(published: tuple[Path, str]) -> None:
    run, _ = published
    client = client_of(run)

    def found(words: str) -> set[str]:
        return {item.data.tags["arm"] for item in client.search_runs(["1"], words)}

    better = found("tags.`posegen.kind` = 'arm' AND tags.`benchmark.ski-like` = 'better' AND tags.seed = '0'")
    assert "posegen" in better and "before" not in better
    assert found("tags.arm = 'posegen' AND tags.experiment = 'quickstart'") == {"posegen"}
    assert not found("tags.arm = 'posegen' AND tags.seed = '1'")
    (arm,) = client.search_runs(["1"], "tags.arm = 'posegen'")
    assert "Error (MPJPE) over the suite" in arm.data.tags["mlflow.note.content"]


def test_the_parent_shows_all_arms_without_their_runs(published: tuple[Path, str]) -> None:
    run, parent = published
    client = client_of(run)
    summary = json.loads((run / "summary.json").read_text())
    metrics = client.get_run(parent).data.metrics
    for arm in summary["arms"]:
        value = summary["benchmarks"]["ski-like"]["arms"][arm]["mpjpe_mm"]["value"]
        assert metrics[f"mpjpe_mm ski-like/{arm}"] == pytest.approx(value)
    rows = [json.loads(line) for line in (run / "finetune" / "posegen" / "history.jsonl").read_text().splitlines()]
    points = client.get_metric_history(parent, "finetune loss/posegen")
    assert sorted((p.step, p.value) for p in points) == [(row["step"], row["loss"]) for row in rows]


def test_a_childs_time_is_that_of_its_stage(published: tuple[Path, str]) -> None:
    run, _ = published
    (stage,) = client_of(run).search_runs(["1"], "tags.`posegen.key` = 'quickstart-s0/stage/finetune/posegen'")
    marker = run / "stages" / "finetune--posegen.json"
    seconds = json.loads(marker.read_text())["seconds"]
    assert (stage.info.end_time - stage.info.start_time) / 1000 == pytest.approx(seconds, abs=0.01)
    assert stage.info.end_time / 1000 == pytest.approx(marker.stat().st_mtime, abs=0.01)
