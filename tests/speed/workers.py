"""What a second of each brings on this machine: rendering actors in rows/s, fine-tuning workers in samples/s.

    python tests/speed/workers.py [--rows 1024] [--steps 60] [--repeats 3] [--json FILE]

The real renderer makes rows of the arm `random`, the real estimator is fine-tuned on a batch that stays the same in
size however many workers share it. Each actor and worker has one thread, so that two of them use two cores and one
uses one. Start-up is not counted: rates are of what comes after the first blocks, or the first report. Repeats are
interleaved and medians told.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from posegen.config.task import ArmTask
from posegen.machine import cores

os.environ["OMP_NUM_THREADS"] = "1"  # of this process and, by posegen.engine.cluster, of all workers

TOYS = Path(__file__).resolve().parents[1] / "engine"
sys.path.insert(0, str(TOYS))
BLOCK = 16


def render_rate(actors: int, rows: int) -> float:
    """Rows a second of so many rendering actors."""
    from posegen.arms.rows import RowRenderer
    from posegen.config import compose
    from posegen.engine.stream import render_dataset
    from posegen.experiment.rendering import Rendering

    config = ArmTask(compose(), "random")
    stage = Rendering(RowRenderer, config, rows, BLOCK, actors=actors, preserve_order=False)
    warm = 4 * actors * BLOCK  # two blocks are in flight at each actor
    seen, began = 0, 0.0
    for table in render_dataset(stage).iter_batches(batch_size=None, batch_format="pyarrow"):
        if seen < warm <= seen + table.num_rows:
            began, warm = time.perf_counter(), seen + table.num_rows
        seen += table.num_rows
    if seen != rows:
        raise RuntimeError(f"{seen} of {rows} rows came")
    return (rows - warm) / (time.perf_counter() - began)


def training_rate(workers: int, steps: int) -> float:
    """Samples a second of so many fine-tuning workers."""
    from toy_loops import SameBatch

    from posegen.config import compose
    from posegen.engine.history import read_history
    from posegen.engine.terms import Claim, Feed, Place, Reports
    from posegen.engine.train import run_training

    config = compose([f"finetune.steps={steps}", "finetune.source_share=0"])
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_training(
            "finetune", ArmTask(config), Place(folder, "f"), claim=Claim(workers), feed=Feed(SameBatch),
            reports=Reports(checkpoint_every=10**6, every=1),
        )  # fmt: skip
        history = read_history(outcome.history)
    reports = [row for row in history if "worked_s" in row]
    timed = [row for row in history if row["step"] > reports[0]["step"]]
    seconds = sum(row["worked_s"] + row["waited_s"] for row in timed if "worked_s" in row)
    return len(timed) * config.finetune.batch / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from posegen.config import compose
    from posegen.engine.cluster import connect, disconnect

    connect("local", object_store_mb=300, environment={"PYTHONPATH": os.pathsep.join([str(TOYS), *sys.path])})
    measures: dict[str, tuple[str, Callable[[int], float]]] = {
        "rendering actors": ("rows/s", lambda count: render_rate(count, options.rows)),
        "fine-tuning workers": ("samples/s", lambda count: training_rate(count, options.steps)),
    }
    runs: dict[str, dict[int, list[float]]] = {name: {1: [], 2: []} for name in measures}
    for _ in range(options.repeats):
        for name, (_, measure) in measures.items():
            for count in (1, 2):
                runs[name][count].append(measure(count))
    result: dict[str, Any] = {"cores": cores(), "load": os.getloadavg()[0], **vars(options), "json": None}
    for name, (unit, _) in measures.items():
        one, two = (statistics.median(runs[name][count]) for count in (1, 2))
        result[name] = {"unit": unit, "one": one, "two": two, "ratio": two / one, "runs": runs[name]}
        print(f"{name:<20} 1: {one:7.1f} {unit:<10} 2: {two:7.1f} {unit:<10} {two / one:.2f} times")
    disconnect()
    batch = compose().finetune.batch
    result["figures"] = {  # of one device, as tests/speed/scaleout.py --figures takes them
        "render_ms": 1e3 / result["rendering actors"]["one"],
        "train_ms": 1e3 * batch / result["fine-tuning workers"]["one"],
        "train_rows": batch,
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
