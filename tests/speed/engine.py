"""What Ray costs a training run: start-up, a step, a report, a checkpoint; and what a second worker brings.

    python tests/speed/engine.py [--steps 1000] [--json FILE]

The same toy loop runs in this process and as a Ray Train run, in one go.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

TOYS = Path(__file__).resolve().parents[1] / "engine"
sys.path.insert(0, str(TOYS))
NEVER = 10**6  # steps


def plain(steps: int) -> float:
    """Seconds a step of the loop takes by itself."""
    from toy_loops import GanLoop

    loop = GanLoop({"steps": steps, "batch": 64})
    loop.step()
    began = time.perf_counter()
    while loop.step_index < steps:
        loop.step()
    return (time.perf_counter() - began) / (steps - 1)


def ray_run(
    steps: int, folder: str, name: str, *, every: int = NEVER, checkpoint_every: int = NEVER, sleep_ms: float = 0.0,
    workers: int = 1,
) -> dict[str, float]:  # fmt: skip
    from posegen.engine.history import read_history
    from posegen.engine.terms import Claim, Place, Reports
    from posegen.engine.train import run_training

    stamps: list[float] = []
    began = time.perf_counter()
    outcome = run_training(
        "toy_loops:GanLoop", {"steps": steps, "batch": 64, "sleep": sleep_ms / 1e3}, Place(folder, name),
        claim=Claim(workers),
        reports=Reports(lambda row: stamps.append(time.perf_counter()), checkpoint_every, every),
    )  # fmt: skip
    total = time.perf_counter() - began
    rows = read_history(outcome.history)
    worked = sum(row.get("worked_s", 0.0) for row in rows)
    return {
        "all_s": total,
        "until_first_report_s": stamps[0] - began,
        "loop_step_ms": 1e3 * worked / steps,
        "overhead_s": outcome.overhead_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    from posegen.engine.cluster import connect, disconnect

    began = time.perf_counter()
    connect("local", object_store_mb=300, environment={"PYTHONPATH": os.pathsep.join([str(TOYS), *sys.path])})
    result: dict[str, Any] = {"connect_s": time.perf_counter() - began, "load": os.getloadavg()[0]}
    steps = options.steps
    result["plain_step_ms"] = 1e3 * plain(steps)
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            "quiet": ray_run(steps, folder, "quiet"),
            "reports": ray_run(steps, folder, "reports", every=1),
            # Ten seconds of work, so that a checkpoint comes every half second.
            "20 checkpoints": ray_run(steps, folder, "saves", checkpoint_every=steps // 20, sleep_ms=10_000 / steps),
            "two workers": ray_run(steps, folder, "two", workers=2),
        }
    result["runs"] = runs
    quiet = runs["quiet"]["all_s"]
    result["reporting_ms_a_step"] = 1e3 * runs["reports"]["overhead_s"] / steps
    result["checkpoint_ms"] = 1e3 * runs["20 checkpoints"]["overhead_s"] / 20
    print(f"connect                {result['connect_s']:8.1f} s")
    print(f"start and end of a run {quiet - steps * runs['quiet']['loop_step_ms'] / 1e3:8.1f} s")
    print(f"step, plain            {result['plain_step_ms']:8.2f} ms")
    print(f"step, in a worker      {runs['quiet']['loop_step_ms']:8.2f} ms")
    print(f"step, two workers      {runs['two workers']['loop_step_ms']:8.2f} ms")
    print(f"reports cost           {result['reporting_ms_a_step']:8.2f} ms a step")
    print(f"a checkpoint costs     {result['checkpoint_ms']:8.2f} ms")
    disconnect()
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
