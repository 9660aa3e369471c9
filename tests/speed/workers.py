"""What a second of each brings on this machine: rendering actors in rows/s, fine-tuning workers in samples/s.

    python tests/speed/workers.py [--rows 1024] [--steps 60] [--repeats 3] [--json FILE]

The real renderer makes rows of the arm `random`, the real estimator is fine-tuned on a batch that stays the same in
size however many workers share it. Each actor and worker has one thread, so that two of them use two cores and one
uses one. Start-up is not counted: rates are of what comes after the first blocks, or the first report. Repeats are
interleaved and medians told.

What keeps a second one from doubling the rate is looked for without Ray: the same work in plain processes that know
nothing of each other, one and two at once, then two that share their gradients. What half a batch costs more than half
is the estimator's, what two at once lose is the machine's, then come the gradients' reductions, and the rest is Ray's.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from posegen.config.task import ArmTask
from posegen.machine import cores, keep_freed_memory

os.environ["OMP_NUM_THREADS"] = "1"  # of this process and, by posegen.engine.cluster, of all workers

import torch

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


@dataclass(frozen=True)
class Plain:
    """A process without Ray among others that do the same.

    Args:
        parts: of the batch, one of which this process takes.
        meet: file by which processes that share their gradients find each other; None shares nothing.
    """

    what: str
    processes: int = 1
    parts: int = 1
    meet: str | None = None

    def work(self, rank: int) -> Callable[[int], Any]:
        """Makes ready what is done turn by turn."""
        return self._renders() if self.what == "block" else self._trains(rank)

    def _renders(self) -> Callable[[int], Any]:
        import numpy as np

        from posegen.arms.rows import RowRenderer
        from posegen.config import compose

        renderer = RowRenderer(ArmTask(compose(), "random"))
        return lambda turn: renderer(np.arange(turn * BLOCK, (turn + 1) * BLOCK))

    def _trains(self, rank: int) -> Callable[[int], Any]:
        from toy_loops import SameBatch

        from posegen.config import compose
        from posegen.finetune.loop import FinetuneLoop

        batch = compose().finetune.batch
        if self.meet is None:
            task = ArmTask(compose([f"finetune.batch={batch // self.parts}", "finetune.source_share=0"]))
            loop = FinetuneLoop(task)
        else:
            torch.distributed.init_process_group(
                "gloo", init_method=f"file://{self.meet}", rank=rank, world_size=self.processes
            )
            task = ArmTask(compose(["finetune.source_share=0"]))
            wrap = partial(torch.nn.parallel.DistributedDataParallel, broadcast_buffers=False)
            loop = FinetuneLoop(task, wrap=wrap, rank=rank, world_size=self.processes)
        rows = SameBatch(task, loop=loop, rank=rank, world_size=1).batch
        return lambda turn: loop.step(rows)


def _process(plain: Plain, rank: int, turns: int, meeting: Any, told: Any) -> None:
    keep_freed_memory()  # as trainers and renderers do
    work, warm = plain.work(rank), 3
    for turn in range(warm):
        work(turn)
    meeting.wait()
    began = time.perf_counter()
    for turn in range(turns):
        work(warm + turn)
    told.put((time.perf_counter() - began) / turns)


def seconds_of(plain: Plain, turns: int) -> float:
    """Of a turn, while all processes are at it."""
    context = multiprocessing.get_context("spawn")
    meeting, told = context.Barrier(plain.processes), context.Queue()
    running = [
        context.Process(target=_process, args=(plain, rank, turns, meeting, told)) for rank in range(plain.processes)
    ]
    for process in running:
        process.start()
    seconds = [told.get(timeout=600) for _ in running]
    for process in running:
        process.join()
    return statistics.mean(seconds)


def plain_ms(repeats: int, turns: int) -> dict[str, float]:
    """Milliseconds of a block and of a step in plain processes: medians of interleaved repeats."""
    taken: dict[str, list[float]] = {}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            ways = {
                "a block": Plain("block"), "a block, two at once": Plain("block", 2),
                "a step": Plain("step"), "half a step": Plain("step", parts=2),
                "half a step, two at once": Plain("step", 2, 2),
                "half a step, two that share": Plain("step", 2, 2, f"{folder}/meet"),
            }  # fmt: skip
            for name, plain in ways.items():
                taken.setdefault(name, []).append(1e3 * seconds_of(plain, turns))
    return {name: statistics.median(values) for name, values in taken.items()}


def explained(plain: dict[str, float], one_ms: float, two_ms: float) -> str:
    """Where a second worker's work goes.

    Args:
        plain: see `plain_ms`.
        one_ms, two_ms: a step of the batch by one and by two of Ray's workers.
    """
    lines = [f"{name:<28} {value:6.1f} ms without Ray" for name, value in plain.items()]
    step, renderers = plain["a step"], 2 * plain["a block"] / plain["a block, two at once"]
    left = {name: step / plain[name] for name in plain if name.startswith("half")}
    return "\n".join([
        *lines,
        f"two renderers without Ray do {renderers:.2f} times the work of one",
        "two trainers: " + ", ".join(f"{ratio:.2f} ({name})" for name, ratio in left.items())
        + f", {one_ms / two_ms:.2f} times (Ray)",
    ])  # fmt: skip


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
    result["plain_ms"] = plain_ms(options.repeats, max(8, options.steps // 3))
    one, two = (1e3 * batch / result["fine-tuning workers"][count] for count in ("one", "two"))
    print(explained(result["plain_ms"], one, two))
    result["figures"] = {  # of one device, as tests/speed/scaleout.py --figures takes them
        "render_ms": 1e3 / result["rendering actors"]["one"],
        "train_ms": 1e3 * batch / result["fine-tuning workers"]["one"],
        "train_rows": batch,
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
