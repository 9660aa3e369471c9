"""A full object store for certain: another program holds all of it, and the disk to which Ray spills takes no more."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

PLATFORM = Path(__file__).parents[2] / "platform"

# Objects that somebody still holds are never evicted; Ray can only spill them, and a disk of 20 MB is soon full.
WITH_ANOTHER_PROGRAM = """
import sys
import numpy as np
from posegen.cli import main
from posegen.engine.cluster import connect
connect("local", cpus=4, gpus=0, object_store_mb=100)
import ray  # after connect, which says on which address it listens
held = []
for size in (5_000_000, 500_000, 150_000):
    try:
        while True:
            held.append(ray.put(np.ones(size, np.uint8)))
    except ray.exceptions.OutOfDiskError:
        print("full at", sum(ray.get(one).nbytes for one in held))
sys.exit(main(sys.argv[1:]))
"""


def run(words: list[str], small_disk: Path | None = None) -> tuple[subprocess.CompletedProcess, float]:
    """A command in a process of its own, and its seconds; with `small_disk`, the disk for spilling is one of 20 MB."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    variables["PYTHONPATH"] = str(PLATFORM)
    if small_disk is not None:
        variables["RAY_object_spilling_directory"] = str(small_disk)
        line = f"mount -t tmpfs -o size=20m posegen {small_disk} && exec {shlex.join(words)}"
        words = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c", line]
    began = time.monotonic()
    done = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=400, check=False)
    return done, time.monotonic() - began


@pytest.mark.hosts
def test_a_full_store_and_a_full_disk_are_told_and_a_larger_store_goes_on(tmp_path, assets):
    small_disk = tmp_path / "spill"
    small_disk.mkdir()
    command = [
        "run", "experiment=smoke", "dataset.arms=[random]", "dataset.images=256", "dataset.rows_per_block=128",
        "evaluation.images=4", "evaluation.suite=[ski-like]", f"run.outputs={tmp_path}",
    ]  # fmt: skip
    done, seconds = run([sys.executable, "-c", WITH_ANOTHER_PROGRAM, *command], small_disk)
    said = done.stdout + done.stderr
    assert done.stdout.count("full at") == 3, said  # by real refusals of a real store
    assert done.returncode == 2 and "Traceback" not in said, said
    assert "Ray's object store is full in train-finetune-random-" in said
    assert "and so is the disk to which it spills" in said and ", node 127.0.0.1\n" in said
    assert "raise engine.object_store_mb or make room on that disk" in said
    failures = list(tmp_path.glob("*/finetune/random/failures.jsonl"))
    assert len(failures) == 1 and failures[0].read_text().count("\n") == 1  # told at once, not after retries
    assert seconds < 200

    done, _ = run([sys.executable, "-m", "posegen.cli", *command, "engine.object_store_mb=300"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "source rows                        done before" in done.stdout
    assert "MPJPE (mm)" in done.stdout
