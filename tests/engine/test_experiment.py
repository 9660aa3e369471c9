"""The whole experiment, small: every stage leaves its files, a second call does nothing again, reports are whole."""

import json

import pytest

from posegen.cli import main
from posegen.config import compose
from posegen.engine.trial import run_trial

OVERRIDES = ["experiment=smoke", "dataset.arms=[random,posegen]", "evaluation.images=8"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, ray_cluster, assets):
    folder = tmp_path_factory.mktemp("outputs")
    assert main(["run", *OVERRIDES, f"run.outputs={folder}"]) == 0
    return folder


def test_a_run_leaves_what_its_summary_promises(outputs, capsys):
    run = (outputs / "latest").resolve()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["arms"] == ["before", "random", "posegen"]
    assert set(summary["benchmarks"]) == {"3dpw-like", "3dhp-like", "ski-like", "agora-like"}
    for benchmark in summary["benchmarks"].values():
        assert benchmark["images"] == 8
        cell = benchmark["arms"]["posegen"]["mpjpe_mm"]
        assert cell["low"] <= cell["value"] <= cell["high"]
        before, after = (benchmark["arms"][arm]["mpjpe_mm"]["value"] for arm in ("before", "random"))
        assert benchmark["difference"]["random"]["mpjpe_mm"]["value"] == pytest.approx(after - before, abs=1e-3)
    assert summary["generator"]["posegen"]["nearest_mm"] > 0
    html = (run / "report.html").read_text()
    assert "posegen" in html.lower()
    assert "http://" not in html.replace("http://www.w3.org", "")  # nothing is fetched
    for arm in ("random", "posegen"):
        assert (run / "finetune" / arm / "estimator.pt").is_file()
        steps = [json.loads(line)["step"] for line in (run / "finetune" / arm / "history.jsonl").open()]
        assert steps == [1, 2, 3, 4]


def test_the_dataset_opens_in_plain_pyarrow_with_its_labels(outputs):
    import pyarrow.parquet as pq

    table = pq.read_table((outputs / "latest").resolve() / "dataset" / "posegen")
    assert table.num_rows == 32
    assert sorted(table.column("row_id").to_pylist()) == list(range(32))
    assert set(table.column("arm").to_pylist()) == {"posegen"}
    assert min(table.column("error_at_birth_mm").to_pylist()) > 0


def test_a_second_call_goes_straight_to_the_table(outputs, capsys):
    latest = (outputs / "latest").resolve()
    before = {file: file.stat().st_mtime_ns for file in (latest / "finetune").rglob("*.pt")}
    capsys.readouterr()
    assert main(["run", *OVERRIDES, f"run.outputs={outputs}"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("done before") >= 6
    assert "MPJPE (mm)" in printed
    assert {file: file.stat().st_mtime_ns for file in (latest / "finetune").rglob("*.pt")} == before


def test_mlflow_holds_parent_stages_and_arms(outputs):
    from posegen.tracking.mlflow_store import Tracker

    tracker = Tracker(outputs)
    parent = tracker.find((outputs / "latest").resolve().name)
    assert parent is not None
    assert tracker.client.get_run(parent.id).info.status == "FINISHED"
    keys = {child.key.split("/", 1)[1] for child in tracker.children(parent)}
    assert {"arm/random", "arm/posegen"} <= keys
    assert any(key.startswith("stage/") for key in keys)


def test_a_stage_alone_needs_its_artefacts(outputs, capsys):
    assert main(["evaluate", *OVERRIDES, f"run.outputs={outputs}", "run.name=empty"]) == 2
    error = capsys.readouterr().err
    assert "has not been fine-tuned" in error
    assert "posegen finetune" in error


def test_a_trial_reports_the_mean_improvement(outputs):
    seen = []
    given = {"experiment": "smoke", "evaluation.images": 8, "dataset.arms": "[random]", "run.outputs": str(outputs)}
    metrics = run_trial(given, seen.append)
    assert seen == []  # of one round: its metrics are what is returned
    before = 0.0
    name = compose([f"{k}={v}" for k, v in given.items()])["experiment_name"]
    assert name == "smoke"
    assert set(metrics) >= {"mean_relative_improvement", "mpjpe_mm/ski-like"}
    assert metrics["mean_relative_improvement"] != before


def test_a_wrong_arm_is_answered_with_the_choices(capsys):
    assert main(["run", "dataset.arms=[posegn]"]) == 2
    assert "mined_random" in capsys.readouterr().err
