"""How fast rendered rows reach a torch consumer: in process, by a torch DataLoader, through Ray Data.

    python tests/speed/stream.py [--rows 8192] [--side 96] [--json FILE]

One toy renderer (rows at the speed of memory) feeds all of them in one run, so that the numbers are of the transport.
Each is repeated and the median told. The last part trains with a slower renderer: how long the trainer waits.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import torch

TOYS = Path(__file__).resolve().parents[1] / "engine"
sys.path.insert(0, str(TOYS))

BLOCK = 128
Batches = Iterator[dict[str, torch.Tensor]]


def in_process(rows: int, side: int) -> Batches:
    from toy_render import toy_rows

    from posegen.shards import table_to_tensors

    for first in range(0, rows, BLOCK):
        yield table_to_tensors(toy_rows(np.arange(first, first + BLOCK), side))


class Rows(torch.utils.data.IterableDataset):
    def __init__(self, rows: int, side: int) -> None:
        self.rows, self.side = rows, side

    def __iter__(self) -> Batches:
        yield from in_process(self.rows, self.side)


def data_loader(rows: int, side: int) -> Batches:
    yield from torch.utils.data.DataLoader(
        Rows(rows, side), batch_size=None, num_workers=1, prefetch_factor=2, multiprocessing_context="spawn"
    )


def ray_native(rows: int, side: int) -> Batches:
    """The path that fine-tuning takes."""
    from toy_render import toy_factory

    from posegen.engine.stream import render_dataset
    from posegen.experiment.rendering import Rendering
    from posegen.shards import table_to_tensors

    dataset = render_dataset(Rendering(toy_factory, {"side": side}, rows, BLOCK))
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield table_to_tensors(table)


def ray_torch_batches(rows: int, side: int) -> Batches:
    """The same stage read by Ray's own iter_torch_batches."""
    from toy_render import toy_factory

    from posegen.engine.stream import render_dataset
    from posegen.experiment.rendering import Rendering
    from posegen.shards import schema
    from posegen.shards.table import tensor_columns

    columns = tuple(tensor_columns(schema(side, side)))
    dataset = render_dataset(Rendering(toy_factory, {"side": side}, rows, BLOCK, columns=columns))
    yield from dataset.iter_torch_batches(batch_size=BLOCK)


def ray_default_tensors(rows: int, side: int) -> Batches:
    """Ray Data as its documentation has it: numpy dictionaries, Ray's tensor type, iter_torch_batches."""
    import ray.data

    source = ray.data.range(rows, override_num_blocks=max(1, rows // BLOCK))
    rendered = source.map_batches(
        NumpyRenderer, fn_constructor_args=(side,), batch_size=BLOCK, compute=ray.data.ActorPoolStrategy(size=1)
    )
    yield from rendered.iter_torch_batches(batch_size=BLOCK)


class NumpyRenderer:
    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        from toy_render import toy_rows

        from posegen.shards import table_to_tensors

        return {name: t.numpy() for name, t in table_to_tensors(toy_rows(batch["id"], self.side)).items()}


def measure(source: Callable[[int, int], Batches], rows: int, side: int) -> dict[str, float]:
    """Rates from the first batch on: starting processes is not transport."""
    batches = iter(source(rows, side))
    seen = len(next(batches)["row_id"])
    size, timed, began = 0, 0, time.perf_counter()
    for batch in batches:
        timed += len(batch["row_id"])
        size += sum(tensor.numel() * tensor.element_size() for tensor in batch.values())
    seconds = time.perf_counter() - began
    if seen + timed != rows:
        raise RuntimeError(f"{seen + timed} of {rows} rows came")
    return {"rows_per_s": timed / seconds, "mb_per_s": size / 1e6 / seconds}


def processor_ms(source: Callable[[int, int], Batches], rows: int, side: int) -> dict[str, float]:
    """Processor time of each kind of process for one block (ms), from the first batch on."""

    def now() -> dict[tuple[int, str], float]:
        spent = {}
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                spent[process.pid, kind(process)] = times.user + times.system
        return spent

    def kind(process: psutil.Process) -> str:
        if process.pid == os.getpid():
            return "reading: this process"
        name = (process.cmdline() or [process.name()])[0]
        return name.split("(")[0] if name.startswith("ray::") else Path(name).name

    batches = iter(source(rows, side))
    next(batches)
    before, blocks = now(), sum(1 for _ in batches)
    spent: dict[str, float] = {}
    for key, seconds in now().items():
        spent[key[1]] = spent.get(key[1], 0.0) + 1e3 * (seconds - before.get(key, 0.0)) / blocks
    return dict(sorted(spent.items(), key=lambda item: -item[1]))


def trainer_waits(rows: int, side: int, render_ms: float, step_ms: float, share: float) -> dict[str, float]:
    """Share of its time a trainer waits for rows, when a block takes `render_ms` and a step `step_ms`."""
    from toy_render import toy_factory

    from posegen.engine.finetune import run_finetuning
    from posegen.engine.history import read_history
    from posegen.engine.terms import Place, Reading, Reports
    from posegen.experiment.rendering import Rendering

    batch = 32
    fresh = rows // batch
    config = {"steps": int(fresh / share), "batch": batch, "sleep": step_ms / 1e3}
    with tempfile.TemporaryDirectory() as folder:
        stage = Rendering(toy_factory, {"side": side, "sleep": render_ms / 1e3}, rows, BLOCK, folder=f"{folder}/d")
        began = time.perf_counter()
        outcome = run_finetuning(
            config, stage, Place(folder, "w"), reports=Reports(checkpoint_every=10**6),
            reading=Reading(stream_share=share), kind="toy_loops:RowLoop",
        )  # fmt: skip
        total = time.perf_counter() - began
        history = read_history(outcome.history)
    waited = sum(row.get("waited_s", 0.0) for row in history)
    worked = sum(row.get("worked_s", 0.0) for row in history)
    return {
        "waited_share": waited / (waited + worked), "waited_s": waited, "worked_s": worked, "all_s": total,
        "rendering_alone_s": rows / BLOCK * render_ms / 1e3,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    from posegen.engine.cluster import connect, disconnect

    connect("local", object_store_mb=300, environment={"PYTHONPATH": os.pathsep.join([str(TOYS), *sys.path])})
    sources = {
        "in process": in_process,
        "torch DataLoader, 1 process": data_loader,
        "Ray Data, ours": ray_native,
        "Ray Data, ours, iter_torch_batches": ray_torch_batches,
        "Ray Data, default tensors": ray_default_tensors,
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sources}
    for _ in range(options.repeats):  # interleaved, so that a busy moment hits all of them
        for name, source in sources.items():
            runs[name].append(measure(source, options.rows, options.side))
    result: dict[str, object] = {"rows": options.rows, "side_px": options.side, "load": os.getloadavg()[0]}
    transport = {
        name: {key: statistics.median(run[key] for run in measured) for key in measured[0]}
        for name, measured in runs.items()
    }
    result["transport"] = transport
    for name, row in transport.items():
        print(f"{name:<38} {row['rows_per_s']:>8.0f} rows/s {row['mb_per_s']:>8.0f} MB/s")
    result["processor_ms_a_block"] = {}
    for name in ("Ray Data, ours", "Ray Data, default tensors"):
        spent = processor_ms(sources[name], options.rows, options.side)
        result["processor_ms_a_block"][name] = spent  # type: ignore[index]
        told = ", ".join(f"{kind} {ms:.1f}" for kind, ms in spent.items() if ms >= 0.05)
        print(f"{name}: processor time of a block of {BLOCK} rows, ms: {sum(spent.values()):.1f}, of that {told}")
    result["trainer"] = {}
    for share in (1.0, 0.5):
        waits = trainer_waits(2048, options.side, render_ms=400, step_ms=50, share=share)
        result["trainer"][f"stream_share={share:g}"] = waits  # type: ignore[index]
        print(
            f"trainer, stream_share={share:<4g} waits {100 * waits['waited_share']:.0f} % of its time "
            f"({waits['waited_s']:.1f} s of {waits['waited_s'] + waits['worked_s']:.1f} s; all {waits['all_s']:.1f} s; "
            f"rendering alone {waits['rendering_alone_s']:.1f} s)"
        )
    disconnect()
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
