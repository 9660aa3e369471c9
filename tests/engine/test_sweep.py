"""Sweeps on a toy objective whose best point is known, with trials that fail, stop early and are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from posegen.engine.sweep_space import SweepConfig
from posegen.errors import ConfigError, EngineError

SPACE = {
    "noise": {"dist": "choice", "values": ["gaussian", "sphere"]},
    "loss.weight": {"dist": "choice", "values": [0.1, 1.0, 10.0]},
}


def toy_objective(fail: str | None = None, marks: Path | None = None, seconds: float = 0.0):
    """score = bonus of the noise - |log10 weight|, reached over three reports; the best is sphere at weight 1."""

    def objective(parameters: dict[str, Any], report: Any) -> dict[str, float]:
        import math
        import time

        if parameters["noise"] == fail and parameters["loss.weight"] == 10.0:
            raise ValueError("this trial has bad luck")
        best = {"gaussian": 1.0, "sphere": 3.0}[parameters["noise"]] - abs(math.log10(parameters["loss.weight"]))
        for step in range(1, 3):
            time.sleep(seconds)
            report({"score": best * step / 3})
        if marks is not None:
            (marks / f"{parameters['noise']}-{parameters['loss.weight']}-{os.getpid()}").touch()
        return {"score": best}

    return objective


def toy_config(**changes: Any) -> SweepConfig:
    values: dict[str, Any] = {
        "name": "toy", "space": SPACE, "search": "grid", "scheduler": "none", "metric": "score", "max_reports": 10,
        "max_failures": 0, "trial_resources": {"CPU": 1.0},
    }  # fmt: skip
    return SweepConfig(**(values | changes))


def test_grid_finds_the_optimum_and_survives_a_failing_trial(ray_cluster, tmp_path):
    from posegen.engine.tune import sweep
    from posegen.tracking.store.mlflow_store import Tracker

    said: list[str] = []
    result = sweep(
        toy_objective(fail="gaussian"),
        toy_config(),
        tmp_path,
        tracking_uri=f"sqlite:///{tmp_path}/m.db",
        progress=said.append,
    )

    assert len(result.trials) == 6
    assert result.best.parameters == {"noise": "sphere", "loss.weight": 1.0}
    assert result.best.value == pytest.approx(3.0)
    assert [t.value for t in result.trials[:5]] == pytest.approx([3.0, 2.0, 2.0, 1.0, 0.0])
    assert [t.state for t in result.trials] == ["finished"] * 5 + ["failed"]
    assert "bad luck" in result.trials[-1].error
    assert any("failed" in line and "bad luck" in line for line in said), said
    lines = result.table().splitlines()
    assert lines[2].split() == ["1", "3", "sphere", "1", "finished"]
    assert lines[-1].startswith(f"trial {result.trials[-1].id} failed: ") and "bad luck" in lines[-1]
    assert json.loads((tmp_path / "sweeps/toy/result.json").read_text())["trials"][0]["value"] == pytest.approx(3.0)

    assert {path.name for path in (tmp_path / "sweeps/toy").glob("*.png")} == {
        "importance.png",
        "parallel_coordinates.png",
    }
    tracker = Tracker(tmp_path, uri=f"sqlite:///{tmp_path}/m.db")
    runs = [tracker.client.get_run(child.id) for child in tracker.children(tracker.find("sweep/toy"))]
    assert sorted(run.info.status for run in runs) == ["FAILED"] + ["FINISHED"] * 5
    assert {run.data.tags["ray_trial_id"] for run in runs} == {trial.id for trial in result.trials}
    best = next(run for run in runs if run.data.tags["ray_trial_id"] == result.best.id)
    assert best.data.params["noise"] == "sphere"
    assert [m.value for m in tracker.client.get_metric_history(best.info.run_id, "score")] == pytest.approx([1, 2, 3])


def test_asha_stops_the_poor_ones_and_their_runs_are_closed(ray_cluster, tmp_path):
    from posegen.engine.tune import sweep
    from posegen.tracking.store.mlflow_store import Tracker

    config = toy_config(scheduler="asha", grace_reports=1, reduction_factor=2, max_concurrent=1)
    result = sweep(toy_objective(), config, tmp_path, tracking_uri=f"sqlite:///{tmp_path}/m.db")
    assert result.best.parameters == {"noise": "sphere", "loss.weight": 1.0}
    stopped = [trial for trial in result.trials if trial.state == "stopped"]
    assert stopped, result.table()
    assert all(trial.reports < 3 for trial in stopped)
    tracker = Tracker(tmp_path, uri=f"sqlite:///{tmp_path}/m.db")
    runs = [tracker.client.get_run(child.id) for child in tracker.children(tracker.find("sweep/toy"))]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert sum("posegen.stopped_by" in run.data.tags for run in runs) == len(stopped)


@pytest.mark.parametrize("search", ["grid", "optuna"])
def test_no_more_trials_run_at_once_than_there_is_room_for(ray_cluster, tmp_path, search):
    from posegen.engine.tune import sweep

    def objective(parameters, report):
        started = time.time()
        time.sleep(2.5)  # longer than it takes to start another
        return {"score": parameters["x"], "started": started, "ended": time.time()}

    space = {"x": {"dist": "choice", "values": [1.0, 2.0, 3.0, 4.0]}}
    config = toy_config(name=search, search=search, trials=4, space=space, max_concurrent=2)
    trials = [trial.metrics for trial in sweep(objective, config, tmp_path, experiment=None).trials]
    assert len(trials) == 4
    at_once = [sum(o["started"] <= t["started"] < o["ended"] for o in trials) for t in trials]
    assert max(at_once) <= 2, at_once


def test_optuna_searches_a_continuous_space(ray_cluster, tmp_path):
    from posegen.engine.tune import sweep

    space = {
        "noise": {"dist": "choice", "values": ["sphere"]},
        "loss.weight": {"dist": "loguniform", "lower": 0.1, "upper": 10.0},
    }
    result = sweep(
        toy_objective(), toy_config(name="o", space=space, search="optuna", trials=4), tmp_path, experiment=None
    )
    assert len({t.parameters["loss.weight"] for t in result.trials}) == 4
    assert all(0.1 <= t.parameters["loss.weight"] <= 10.0 for t in result.trials)


INTERRUPTED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import ray.cloudpickle, test_sweep
ray.cloudpickle.register_pickle_by_value(test_sweep)
from posegen.engine.cluster import connect
from posegen.engine.tune import sweep
connect({address!r})
objective = test_sweep.toy_objective(marks=Path({marks!r}), seconds=0.3)
sweep(objective, test_sweep.toy_config(max_concurrent=1), {outputs!r}, experiment=None)
"""


def test_a_killed_sweep_resumes_where_it_was(ray_cluster, tmp_path):
    from posegen.engine.tune import sweep

    marks = tmp_path / "marks"
    marks.mkdir()
    code = INTERRUPTED.format(
        tests=str(Path(__file__).parent), address=ray_cluster.address, marks=str(marks), outputs=str(tmp_path)
    )
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    deadline = time.monotonic() + 90
    while len(list(marks.iterdir())) < 2 and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.1)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    done = {path.name for path in marks.iterdir()}
    assert 2 <= len(done) < 6

    result = sweep(toy_objective(marks=marks), toy_config(max_concurrent=1), tmp_path, experiment=None)
    assert [trial.state for trial in result.trials] == ["finished"] * 6
    assert result.best.value == pytest.approx(3.0)
    again = {path.name for path in marks.iterdir()}
    assert done <= again
    assert len(again) <= 6 + 2  # at most what was running, or not yet written down, when the driver was killed


def test_a_changed_search_is_not_mixed_with_the_one_begun(ray_cluster, tmp_path):
    from posegen.engine.tune import sweep

    one = {"noise": {"dist": "choice", "values": ["sphere"]}, "loss.weight": {"dist": "choice", "values": [1.0]}}
    sweep(toy_objective(), toy_config(space=one), tmp_path, experiment=None)
    with pytest.raises(ConfigError, match="begun with another space"):
        sweep(toy_objective(), toy_config(), tmp_path, experiment=None)


def test_a_trial_larger_than_the_cluster_is_an_error_at_once(ray_cluster, tmp_path):
    from posegen.engine.tune import sweep

    started = time.monotonic()
    with pytest.raises(EngineError, match="a trial asks for 500 CPU, the cluster has 4 CPU"):
        sweep(toy_objective(), toy_config(trial_resources={"CPU": 500.0}), tmp_path, experiment=None)
    assert time.monotonic() - started < 30


def trained_objective(folder: str):
    """Each trial starts a Ray Train worker of its own, as an experiment does; a weight of 10 is hopeless and slow."""

    def loop(settings: dict[str, Any]) -> None:
        import time
        from pathlib import Path

        from ray import train

        hopeless = settings["loss.weight"] == 10
        for _ in range(600 if hopeless else 0):  # waits for one that it can be compared with
            if (Path(folder) / "a good one ended").exists():
                break
            time.sleep(0.1)
        for step in range(1, 200 if hopeless else 4):
            time.sleep(0.1)
            train.report({"score": -settings["loss.weight"], "step": step})
        if not hopeless:
            (Path(folder) / "a good one ended").touch()

    def objective(parameters: dict[str, Any], report: Any) -> dict[str, float]:
        from ray import train, tune
        from ray.train.torch import TorchTrainer
        from ray.tune.integration.ray_train import TuneReportCallback

        trial = tune.get_context().get_trial_id()
        run = train.RunConfig(name=f"train-{trial}", storage_path=folder, callbacks=[TuneReportCallback()])
        scaling = train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 2})
        TorchTrainer(loop, train_loop_config=parameters, run_config=run, scaling_config=scaling).fit()
        return {"score": -parameters["loss.weight"]}

    return objective


def test_trials_that_start_train_workers_give_them_back_when_stopped(ray_cluster, tmp_path):
    """Three trials of two CPUs on four: without the State API the stopped one would keep its CPUs and the rest wait."""
    import ray

    from posegen.engine.tune import sweep

    config = toy_config(
        name="train", space={"loss.weight": {"dist": "choice", "values": [0.1, 10.0, 1.0]}}, scheduler="asha",
        grace_reports=2, max_reports=50, reduction_factor=2, trial_resources={"CPU": 2.0},
    )  # fmt: skip
    result = sweep(trained_objective(str(tmp_path)), config, tmp_path, experiment=None)
    states = {trial.parameters["loss.weight"]: trial.state for trial in result.trials}
    assert states[0.1] == "finished"
    assert states[10.0] == "stopped"
    assert result.best.parameters == {"loss.weight": 0.1}
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU", 0) < 4 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == 4
