"""Killed at random moments, an experiment ends with what an undisturbed one ends with.

By default: a process without Ray that is killed several times, and a train worker and a render actor on the tests' Ray.
With `-m chaos`: every fault of faults.py, each in an experiment of its own.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from chaos.faults import FAULTS, usable
from chaos.in_one_process import WORDS, tuned
from chaos.processes import RENDERER, TRAINER, below, kill, lives, named
from chaos.record import again, half_written, made, read_rows, read_steps, read_weights
from chaos.world import ROOT, variables

SEED = 5


@pytest.fixture(scope="module")
def calm(tmp_path_factory, assets) -> Path:
    """An undisturbed run, in this process."""
    return tuned(tmp_path_factory.mktemp("calm"))


def assert_same(run: Path, calm: Path) -> None:
    assert read_weights(run) == read_weights(calm)
    assert read_rows(run) == read_rows(calm)
    assert read_steps(run) == read_steps(calm)


def test_a_process_killed_at_random_moments_ends_with_the_same_weights(tmp_path, calm):
    chance, count = random.Random(SEED), tmp_path / "count"
    run, kills = tmp_path / "outputs" / "struck", 0
    while True:
        process = subprocess.Popen(
            [sys.executable, "-m", "chaos.in_one_process", str(run.parent)], cwd=ROOT / "tests",
            env=variables(count), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if kills < 3:
            known, wanted = made(run), chance.randrange(1, 4)  # things more than there were
            while process.poll() is None and len(made(run) - known) < wanted:
                time.sleep(0.01)
            time.sleep(0.2 * chance.random())
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
            process.communicate()
            if process.returncode == -signal.SIGKILL:
                continue
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 0, said
        break
    assert kills == 3
    assert_same(run, calm)
    steps, rows = again(count)
    assert rows <= 3 * 2 * 16 and steps <= 3 * 2  # blocks at work, and steps since the last checkpoint
    for file in half_written(run):
        os.utime(run / file, (1e9, 1e9))
    tuned(run.parent)
    assert half_written(run) == []


def test_a_killed_trainer_and_a_killed_renderer_change_nothing(ray_cluster, tmp_path, calm):
    from posegen.config import compose
    from posegen.engine.resources import require
    from posegen.engine.workers import RayWorkers
    from posegen.experiment.opening import opened
    from posegen.progress import Reporter

    struck: list[str] = []
    done = threading.Event()
    strangers = {process.pid for kind in (TRAINER, RENDERER) for process in named(kind, below())}

    def strike() -> None:
        chance = random.Random(SEED)
        for kind in (RENDERER, TRAINER):
            while not done.is_set():
                victims = [one for one in named(kind, below()) if one.pid not in strangers]
                if victims:
                    done.wait(0.5 * chance.random())
                    kill(victims[:1])
                    struck.append(kind)
                    break
                done.wait(0.05)

    striker = threading.Thread(target=strike, daemon=True)
    striker.start()
    words = [*WORDS, f"run.outputs={tmp_path}"]
    config = compose(words)
    try:
        with opened("run", config, RayWorkers(config), Reporter(), words) as experiment:
            experiment.finetune("random")
    finally:
        done.set()
        striker.join()
    assert struck == [RENDERER, TRAINER]
    require([{"CPU": 1}] * 4, "the next stage", free_within_s=20)  # all is given back, whenever the trainer died
    assert_same(experiment.run.path, calm)
    assert half_written(experiment.run.path) == []


def test_processes_are_told_apart_and_killed_for_certain():
    line = "import sys, time; print(0, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", line], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    found = [one for one in below() if one.pid == process.pid]
    assert found == [psutil.Process(process.pid)] and lives(found[0])
    kill(found)
    assert process.wait() == -signal.SIGKILL
    assert not lives(found[0])
    process.stdout.close()


@pytest.mark.chaos
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("fault", list(FAULTS))
def test_every_fault(tmp_path, assets, fault):
    assert fault in usable(), "this fault needs root"
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--kills", "1", "--fault", fault, "--seed", "1", "--folder",
         str(tmp_path / "c")],
        cwd=ROOT, env=variables(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "same results" in done.stdout
