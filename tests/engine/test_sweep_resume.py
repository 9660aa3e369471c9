"""Sweeps that are interrupted: what goes on, how many at once, and what MLflow shows meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from posegen.engine.sweep_space import SweepConfig

DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import ray.cloudpickle, test_sweep_resume
ray.cloudpickle.register_pickle_by_value(test_sweep_resume)
from posegen.engine.cluster import connect
connect({address!r})
from posegen.engine.tune import sweep
config = test_sweep_resume.four_trials(max_concurrent={at_once})
sweep(test_sweep_resume.objective(Path({folder!r}), {together}), config, {folder!r})
"""


def four_trials(max_concurrent: int) -> SweepConfig:
    return SweepConfig(
        name="four", space={"x": {"dist": "choice", "values": [1.0, 2.0, 3.0, 4.0]}}, search="grid", scheduler="none",
        metric="score", max_failures=0, max_concurrent=max_concurrent,
    )  # fmt: skip


def objective(folder: Path, together: int):
    """score = x, once the gate is open and `together` trials have been at work side by side."""

    def wait_for(condition: Any, what: str) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(what)
            time.sleep(0.05)

    def trial(parameters: dict[str, Any], report: Any) -> dict[str, float]:
        started = time.time()
        (folder / f"started-{parameters['x']}").touch()
        wait_for((folder / "gate").exists, "the gate stayed shut")
        (folder / f"inside-{parameters['x']}").touch()
        wait_for(lambda: len(list(folder.glob("inside-*"))) >= together, f"there were never {together} at once")
        time.sleep(1.5)  # longer than Tune needs to start another
        return {"score": parameters["x"], "started": started, "ended": time.time()}

    return trial


def interrupted(ray_cluster, folder: Path, at_once: int, together: int, number: signal.Signals) -> int:
    """Begins the sweep in another process and ends that while as many trials as may be are at work; its status."""
    code = DRIVER.format(
        tests=str(Path(__file__).parent), address=ray_cluster.address, folder=str(folder), at_once=at_once,
        together=together,
    )  # fmt: skip
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(folder.glob("started-*"))) < at_once and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.05)
    os.kill(child.pid, number)
    status = child.wait(timeout=120)
    assert len(list(folder.glob("started-*"))) == at_once
    (folder / "gate").touch()
    return status


def test_a_sweep_killed_on_a_large_cluster_goes_on_one_by_one_on_a_small_one(ray_cluster, tmp_path):
    from posegen.engine.tune import sweep

    assert interrupted(ray_cluster, tmp_path, 3, 1, signal.SIGKILL) == -signal.SIGKILL
    result = sweep(objective(tmp_path, 1), four_trials(max_concurrent=1), tmp_path, experiment=None)
    assert [(trial.state, trial.value) for trial in result.trials] == [("finished", x) for x in (4.0, 3.0, 2.0, 1.0)]
    times = sorted((trial.metrics["started"], trial.metrics["ended"]) for trial in result.trials)
    assert all(before[1] <= after[0] for before, after in pairwise(times)), times


def test_a_sweep_stopped_by_ctrl_c_on_a_small_cluster_uses_all_of_a_large_one(ray_cluster, tmp_path):
    """Three trials wait for each other: under the limit of one at which the sweep began they would wait for ever."""
    from posegen.engine.tune import sweep
    from posegen.tracking.store.mlflow_store import Tracker

    assert interrupted(ray_cluster, tmp_path, 1, 3, signal.SIGINT) in (-signal.SIGINT, 1, 130)
    assert not (tmp_path / "sweeps/four/result.json").exists()
    tracker = Tracker(tmp_path)
    parent = tracker.find("sweep/four")
    statuses = [tracker.client.get_run(run.id).info.status for run in (parent, *tracker.children(parent))]
    assert set(statuses) == {"KILLED"} and len(statuses) == 2

    result = sweep(objective(tmp_path, 3), four_trials(max_concurrent=3), tmp_path)
    assert [(trial.state, trial.value) for trial in result.trials] == [("finished", x) for x in (4.0, 3.0, 2.0, 1.0)]
    statuses = [tracker.client.get_run(run.id).info.status for run in (parent, *tracker.children(parent))]
    assert statuses == ["FINISHED"] * 5  # the sweep's own, and one for each trial: none twice


def test_two_trials_with_the_same_parameters_are_one_run(ray_cluster, assets, tmp_path, capsys):
    """The smallest sweep of real experiments, from the command line: one fine-tuning on random rows each."""
    from posegen.cli import main

    words = [
        "sweep", "sweep=small", "sweep.trials=3", "sweep.max_concurrent=2", "dataset.arms=[random]",
        "sweep.space={finetune.learning_rate: {dist: choice, values: [0.001]}, seed: {dist: choice, values: [0]}}",
        "finetune.steps=2", "dataset.images=16", "dataset.source_images=16", "evaluation.suite=[ski-like]",
        "evaluation.images=4", f"run.outputs={tmp_path}",
    ]  # fmt: skip
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert printed.count("finished: mean_relative_improvement=") == 3
    assert "next: posegen run experiment=smoke" in printed
    (run,) = tmp_path.glob("smoke-seed0-*")
    common = tmp_path / "sweeps/small/common"
    for stage, folder in (("dataset--source", "dataset/source"), ("evaluate--before", "evaluation/before")):
        assert json.loads((run / "stages" / f"{stage}.json").read_text())["made_in"] == "common"
        shared = list((common / folder).glob("*.parquet"))
        assert shared and all(file.samefile(run / folder / file.name) for file in shared)  # no room is taken twice
    result = json.loads((tmp_path / "sweeps/small/result.json").read_text())
    values = {trial["value"] for trial in result["trials"]}
    assert len(result["trials"]) == 3 and len(values) == 1 and values != {0.0}
    assert (tmp_path / "sweeps/small/table.txt").read_text().count("finished") == 3


@pytest.mark.parametrize("word", ["run.name=mine", "run.restart=true"])
def test_what_would_give_all_trials_one_directory_is_refused(word, capsys):
    from posegen.cli import main

    assert main(["sweep", "sweep=small", word]) == 2
    assert f"{word.partition('=')[0]} cannot be set in a sweep" in capsys.readouterr().err
