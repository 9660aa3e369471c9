"""Two rounds: generate, fine-tune, generate against what was fine-tuned; killed in the second and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OVERRIDES = [
    "experiment=smoke", "rounds=2", "dataset.arms=[posegen]", "evaluation.images=8", "evaluation.suite=[ski-like]",
    "adversarial.steps=2", "dataset.images=32", "finetune.steps=4",
]  # fmt: skip


def run(outputs: Path) -> subprocess.Popen:
    variables = dict(os.environ) | {"PYTHONPATH": str(ROOT / "platform"), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "posegen.cli", "run", *OVERRIDES, f"run.outputs={outputs}"], env=variables, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_of_two_rounds_killed_in_the_second_gives_the_numbers_of_one_that_was_not(tmp_path, assets):
    from posegen.tracking.store.mlflow_store import Tracker
    from posegen.tracking.store.publish import run_key

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    said = run(whole).communicate(timeout=500)[0]
    assert "fine-tuning posegen round 2" in said, said

    process = run(killed)
    deadline = time.monotonic() + 400
    step = "finetune/posegen-round2/history.jsonl"  # written once the second round's training has begun
    while not list(killed.glob(f"smoke-*/{step}")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (half,) = killed.glob("smoke-*")
    first = half / "finetune/posegen/estimator.pt"
    assert first.is_file()
    made = first.stat().st_mtime_ns
    again = run(killed).communicate(timeout=500)[0]
    assert "generator posegen round 2          done before" in again, again
    assert first.stat().st_mtime_ns == made

    runs = {folder: next(folder.glob("smoke-*")) for folder in (whole, killed)}
    summaries = [json.loads((path / "summary.json").read_text()) for path in runs.values()]
    assert summaries[0]["benchmarks"] == summaries[1]["benchmarks"]
    assert set(summaries[0]["generator"]) == {"posegen", "posegen-round2"}
    assert first.read_bytes() != (half / "finetune/posegen-round2/estimator.pt").read_bytes()

    import pyarrow.parquet as pq

    for number, folder in enumerate(("posegen", "posegen-round2")):
        table = pq.read_table(half / "dataset" / folder)
        assert table.num_rows == 16 and set(table.column("round").to_pylist()) == {number}
    tracker = Tracker(killed)
    parent = tracker.find(run_key(half))
    keys = {child.key.split("/", 1)[1] for child in tracker.children(parent)}
    assert {"stage/finetune/posegen", "stage/finetune/posegen-round2"} <= keys, keys
    assert "round 2" in (half / "report.html").read_text()
