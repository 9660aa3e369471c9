"""The rows of a fine-tuning: fresh ones as they are made, and those seen before.

Which rows a step sees depends on its number, never on timing: fresh batches come in the order of their ids, spread
evenly over the first part of the training, and the steps between draw from the rows seen so far. So the trainer does
not stand still while renderers work, and a run that was killed gives the numbers of one that was not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import torch
from torch import Tensor

from posegen.errors import DataError
from posegen.seeds import numpy_generator, torch_generator
from posegen.shards.table import table_to_tensors

MB = 2**20


def rebatched(tables: Iterator[pa.Table], rows: int) -> Iterator[dict[str, Tensor]]:
    """Batches of exactly `rows` rows out of tables of any length; the rest at the end comes last and has fewer.

    A batch inside one table is a view of its memory; only one that spans two is copied.
    """
    waiting: list[pa.Table] = []
    have = 0
    for table in tables:
        rest = table
        while have + rest.num_rows >= rows:
            need = rows - have
            whole = [*waiting, rest.slice(0, need)]
            yield table_to_tensors(whole[0] if len(whole) == 1 else pa.concat_tables(whole))
            rest, waiting, have = rest.slice(need), [], 0
        if rest.num_rows:
            waiting.append(rest)
            have += rest.num_rows
    if waiting:
        yield table_to_tensors(pa.concat_tables(waiting))


class Begun:
    """Tables whose first one is asked for now, beside what else the caller does: who makes them begins that early.

    Args:
        tables: where they come from; it is called, and the first one taken, in a thread of its own.
    """

    def __init__(self, tables: Callable[[], Iterator[pa.Table]]) -> None:
        self.tables = tables
        self._first: Future[tuple[Iterator[pa.Table], pa.Table | None]] | None = Future()
        threading.Thread(target=self._begin, args=(self._first,), name="first rows", daemon=True).start()

    def _begin(self, first: Future[tuple[Iterator[pa.Table], pa.Table | None]]) -> None:
        try:
            source = self.tables()
            first.set_result((source, next(source, None)))
        except BaseException as error:  # raised where the tables are wanted
            first.set_exception(error)

    def __call__(self) -> Iterator[pa.Table]:
        """All of them; from the second call on they are asked for anew."""
        begun, self._first = self._first, None
        if begun is None:
            yield from self.tables()
            return
        source, first = begun.result()
        if first is not None:
            yield first
            yield from source


class RowStore:
    """Rows kept for later steps, in memory that is bounded: a uniform sample of all rows once it is full.

    Args:
        capacity_mb: of memory.
        rows: no more than this many are ever offered.
        seed: of the sample.
    """

    def __init__(self, capacity_mb: float, rows: int, seed: int) -> None:
        self.capacity_mb, self.rows, self.seed = capacity_mb, rows, seed
        self.kept: dict[str, Tensor] = {}
        self.capacity = self.filled = self.offered = 0

    def add(self, batch: dict[str, Tensor]) -> None:
        """Copies rows in; when full, by reservoir sampling (Vitter 1985, algorithm R)."""
        size = len(next(iter(batch.values())))
        if not self.kept:
            row_bytes = sum(t[0].numel() * t.element_size() for t in batch.values())
            self.capacity = max(size, min(self.rows, int(self.capacity_mb * MB / row_bytes)))
            self.kept = {name: torch.empty(self.capacity, *t.shape[1:], dtype=t.dtype) for name, t in batch.items()}
        fits = min(size, self.capacity - self.filled)
        for name, tensor in batch.items():
            self.kept[name][self.filled : self.filled + fits] = tensor[:fits]
        self.filled += fits
        draw = numpy_generator(self.seed, "kept rows", self.offered)
        for row in range(fits, size):
            place = int(draw.integers(self.offered + row + 1))
            if place < self.capacity:
                for name, tensor in batch.items():
                    self.kept[name][place] = tensor[row]
        self.offered += size

    def draw(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """`rows` of the kept rows, each as likely, without repeats where there are enough."""
        if not self.filled:
            raise DataError("no generated rows to train on", next_command="raise dataset.images")
        if rows <= self.filled:
            index = torch.randperm(self.filled, generator=generator)[:rows]
        else:
            index = torch.randint(self.filled, (rows,), generator=generator)
        return {name: tensor[index] for name, tensor in self.kept.items()}


def fresh_before(step: int, steps: int, batches: int, stream_share: float) -> int:
    """How many fresh batches the steps before `step` have taken, when `batches` are spread over a share of `steps`."""
    window = max(1, min(steps, round(stream_share * steps)))
    if batches >= window:  # more than fit: one a step, until all are seen
        return min(step, batches)
    return min(batches, -(-step * batches // window))  # rounded up: the first step always takes one


@runtime_checkable
class HoldsOut(Protocol):
    """A loop that measures itself on rows that it is not trained on."""

    held_out_rows: int  # on this rank

    def hold_out(self, generated: dict[str, Tensor]) -> None: ...


class GeneratedRows:
    """The batches of a fine-tuning worker; a posegen.loops.Batches.

    Args:
        tables: where blocks come from, in the order of their ids.
        loop: its `batch_rows` is the rows a step wants on this rank; `steps` and `step_index` say where it is.
        rows: of the whole data set, all ranks together.
        seed: of the draws of kept rows.
        keep_mb: memory for kept rows.
        stream_share: the share of the steps over which fresh batches are spread.
    """

    def __init__(  # noqa: PLR0913 - by keyword: what Ray hands each worker
        self,
        config: Any,
        *,
        tables: Callable[[], Iterator[pa.Table]],
        loop: Any,
        rank: int,
        world_size: int,
        rows: int,
        seed: int,
        keep_mb: float = 1024,
        stream_share: float = 0.5,
    ) -> None:
        del config
        self.loop, self.rank, self.world_size = loop, rank, world_size
        self.seed, self.stream_share = seed, stream_share
        self.rows_here = rows // world_size
        self.batches = max(1, self.rows_here // max(1, loop.batch_rows))
        wanted = loop.held_out_rows if isinstance(loop, HoldsOut) else 0
        self.held_batches = min(-(-wanted // max(1, loop.batch_rows)), self.batches // 4)
        self.batches -= self.held_batches
        self.store = RowStore(keep_mb, self.rows_here, seed + rank)
        self.tables = tables
        self.taken = 0

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor]]]:
        if not self.loop.batch_rows:  # a batch of source rows alone
            while True:
                yield ({},)
        source = rebatched(self.tables(), self.loop.batch_rows)
        if self.held_batches:  # the first ones, so that a resumed run holds out the same
            held = [next(source) for _ in range(self.held_batches)]
            self.loop.hold_out({name: torch.cat([batch[name] for batch in held]) for name in held[0]})
        self.taken = 0
        # After a resume: the rows the steps before had seen come again, read from the shards on disk.
        for _ in self._take(source, self._due(self.loop.step_index)):
            continue
        while True:
            step = self.loop.step_index
            fresh = list(self._take(source, self._due(step + 1) - self.taken))
            if fresh:
                yield (fresh[-1],)
            else:
                yield (self.store.draw(self.loop.batch_rows, torch_generator(self.seed, "replay", step, self.rank)),)

    def _due(self, step: int) -> int:
        return fresh_before(step, self.loop.steps, self.batches, self.stream_share)

    def _take(self, source: Iterator[dict[str, Tensor]], count: int) -> Iterator[dict[str, Tensor]]:
        """The next fresh batches, each of which joins the kept rows."""
        for _ in range(count):
            batch = next(source, None)
            if batch is None:  # the rows were split unevenly
                return
            if len(next(iter(batch.values()))) < self.loop.batch_rows:
                self.store.add(batch)
                return
            self.taken += 1
            self.store.add(batch)
            if self.taken == self.batches:  # what is left fills no batch of its own, but is drawn from later
                for rest in source:
                    self.store.add(rest)
            yield batch

    def metrics(self) -> dict[str, float]:
        """Joins each step's row in the history."""
        return {"fresh_batches": float(self.taken)}

    def state_dict(self) -> dict[str, Any]:
        return {}  # all of it follows from the step's number

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state
