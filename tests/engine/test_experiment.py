"""The whole experiment, small: every stage leaves its files, a second call does nothing again, reports are whole."""

import io
import json

import pytest
import torch
import yaml

from posegen.cli import main
from posegen.config import compose, plain, run_name
from posegen.engine.trial import run_trial
from posegen.engine.workers import RayWorkers
from posegen.errors import ConfigError, EngineError
from posegen.experiment.experiment import Experiment
from posegen.experiment.in_process import InProcess
from posegen.progress import Reporter

OVERRIDES = ["experiment=smoke", "dataset.arms=[random,posegen]", "evaluation.images=8"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, ray_cluster, assets):
    folder = tmp_path_factory.mktemp("outputs")
    assert main(["run", *OVERRIDES, f"run.outputs={folder}", "engine.parallel_arms=2"]) == 0  # both arms at once
    return folder


def test_a_run_leaves_what_its_summary_promises(outputs, capsys):
    run = (outputs / "latest").resolve()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["arms"] == ["before", "random", "posegen"]
    assert set(summary["benchmarks"]) == {"3dpw-like", "3dhp-like", "ski-like", "agora-like"}
    assert summary["watched"]["source-like"]["arms"].keys() == {"before", "random", "posegen"}
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


@pytest.mark.slow
def test_arms_side_by_side_give_the_table_of_arms_one_by_one(outputs, capsys):
    together = json.loads(((outputs / "latest").resolve() / "summary.json").read_text())
    words = [*OVERRIDES, f"run.outputs={outputs}", "engine.parallel_arms=1", "run.name=one-by-one"]
    assert main(["run", *words]) == 0
    assert "arms one after the other" in capsys.readouterr().out
    one_by_one = json.loads((outputs / "one-by-one" / "summary.json").read_text())
    for part in ("arms", "benchmarks", "average", "generator"):
        assert together[part] == one_by_one[part]
    assert list(together["benchmarks"]["ski-like"]["arms"]) == list(one_by_one["benchmarks"]["ski-like"]["arms"])


def test_mlflow_holds_parent_stages_and_arms(outputs):
    from posegen.tracking.store.mlflow_store import Tracker
    from posegen.tracking.store.publish import run_key

    tracker = Tracker(outputs)
    parent = tracker.find(run_key((outputs / "latest").resolve()))
    assert parent is not None
    assert tracker.client.get_run(parent.id).info.status == "FINISHED"
    keys = {child.key.split("/", 1)[1] for child in tracker.children(parent)}
    assert {"arm/random", "arm/posegen"} <= keys
    assert any(key.startswith("stage/") for key in keys)


def test_a_stage_alone_needs_its_artefacts(outputs, capsys):
    assert main(["evaluate", *OVERRIDES, f"run.outputs={outputs}", "run.name=empty"]) == 2
    error = capsys.readouterr().err
    assert "no run 'empty' to evaluate" in error
    assert "next: posegen run" in error
    assert not (outputs / "empty").exists()


def test_a_trial_reports_the_mean_improvement(outputs):
    seen = []
    given = {"experiment": "smoke", "evaluation.images": 8, "dataset.arms": "[random]", "run.outputs": str(outputs)}
    metrics = run_trial(given, seen.append, workers=InProcess())
    assert seen == []  # of one round: its metrics are what is returned
    config = compose([f"{k}={v}" for k, v in given.items()])
    assert set(metrics) >= {"mean_relative_improvement", "mpjpe_mm/ski-like"}
    assert metrics["mean_relative_improvement"] != 0.0
    assert yaml.safe_load((outputs / run_name(config) / "config.yaml").read_text()) == plain(config)


def test_overlap_without_room_is_an_error_before_anything_is_rendered(ray_cluster, assets, tmp_path):
    words = ["experiment=smoke", "overlap=true", f"run.outputs={tmp_path}"]
    config = compose([*words, "engine.cpus_per_trainer=50"])
    experiment = Experiment(config, RayWorkers(config))
    with pytest.raises(EngineError, match=r"(?s)fine-tuning at once.*asked for 101 CPU.*the cluster has 4 CPU"):
        experiment.finetune("posegen")
    assert not list(tmp_path.rglob("*.parquet"))
    with pytest.raises(ConfigError, match="rendered while it is fine-tuned"):
        experiment.dataset("posegen")


def test_one_process_without_ray_makes_what_the_cluster_made(outputs, tmp_path):
    words = [*OVERRIDES, f"run.outputs={tmp_path}"]
    alone = Experiment(compose(words), InProcess("cpu"), Reporter(io.StringIO()), words)
    latest = (outputs / "latest").resolve()
    assert alone.run.path.name == latest.name  # the same configuration
    for arm in alone.arms:
        ours, theirs = (torch.load(file, weights_only=True) for file in (alone.finetune(arm), _weights(latest, arm)))
        assert all(torch.equal(ours["model"][name], tensor) for name, tensor in theirs["model"].items())
    for stage in ("generate--posegen", "finetune--random", "dataset--source"):
        digests = [
            json.loads((run / "stages" / f"{stage}.json").read_text())["digest"] for run in (alone.run.path, latest)
        ]
        assert digests[0] == digests[1]


def _weights(run, arm):
    return run / "finetune" / arm / "estimator.pt"


@pytest.mark.slow
def test_overlapped_rounds_use_as_many_rows_as_asked_and_say_who_made_them(ray_cluster, assets, tmp_path):
    import pyarrow.parquet as pq

    words = ["experiment=smoke", "overlap=true", "rounds=2", "dataset.arms=[posegen]", "evaluation.images=8"]
    assert main(["run", *words, f"run.outputs={tmp_path}", "run.name=overlapped"]) == 0
    run = tmp_path / "overlapped"
    for round_, name in enumerate(("posegen", "posegen-round2")):
        table = pq.read_table(run / "dataset" / name)
        assert sorted(table.column("row_id").to_pylist()) == list(range(16))
        assert set(table.column("generator_version").to_pylist()) <= {1, 2}  # checkpoints at steps 2 and 4
        assert set(table.column("round").to_pylist()) == {round_}
        marker = json.loads((run / "stages" / f"finetune--{name}.json").read_text())
        assert marker["rows_used"] == 16
        assert 1 <= marker["versions"] <= 2  # the second may come after the last row was used


def test_a_wrong_arm_is_answered_with_the_choices(capsys):
    assert main(["run", "dataset.arms=[posegn]"]) == 2
    assert "mined_random" in capsys.readouterr().err
