"""Rows rendered with the newest weights of a generator that is still being trained, and used while they are fresh.

A block of rows is what one fine-tuning worker uses in one step. The worker asks renderers for blocks a little ahead;
when it takes one up, the board judges its age. A block that is too old is rendered again with the newest weights, under
the same row ids, so that the rows used are as many as were asked for, and the disk holds those that were used.

Which version made a row depends on who was faster: such a run cannot be repeated to the last digit. A resumed one goes
on in the same rows: what the steps before its checkpoint used is read from disk, as it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from posegen.engine.stream import MAX_RESTARTS, check_folder
from posegen.engine.versions import VersionBoard
from posegen.experiment.rendering import BlockRenderer, Rendering
from posegen.finetune.rows import GeneratedRows
from posegen.machine import keep_freed_memory
from posegen.shards.writer import part_name

AHEAD = 2  # blocks in flight for each renderer: one is made while the other waits to be used


class FreshRenderer(BlockRenderer):
    """Renders blocks with the newest weights on a board.

    Args:
        rendering: its factory's renderers have `update(version, weights)`; its folder holds what was rendered.
    """

    def __init__(self, rendering: Rendering, board: VersionBoard) -> None:
        super().__init__(rendering)
        self.board = board
        self.version = 0

    def block(self, ids: range, oldest: int) -> pa.Table:
        """The rows of a block, from disk if they are there and of version `oldest` at least; else made anew."""
        name = part_name(ids)
        self.parts = {name: ids} if self.folder is not None and name in self.folder.sizes() else {}
        stored = self._stored(ids)
        if stored and _version(stored[0]) >= oldest:
            return stored[0]
        version, weights = self.board.newer_than(self.version)
        if self._render is None:
            self._render = self.rendering.factory(self.rendering.config)
        if weights is not None:
            self._render.update(version, weights)  # type: ignore[attr-defined]
            self.version = version
        return self._make(ids)


class _Actor:
    """A FreshRenderer in a process of its own. It is made at the first call, and again after a restart."""

    def __init__(self, threads: int) -> None:
        import torch

        keep_freed_memory()
        torch.set_num_threads(threads)
        self.renderer: FreshRenderer | None = None

    def ready(self) -> bool:
        return True

    def block(self, rendering: Rendering, board: VersionBoard, first: int, stop: int, oldest: int) -> pa.Table:
        if self.renderer is None:
            self.renderer = FreshRenderer(rendering, board)
            check_folder(rendering)
        return self.renderer.block(range(first, stop), oldest)


@dataclass(frozen=True)
class Online:
    """Renderers at work beside a training; can be passed to fine-tuning workers.

    Args:
        rendering: rows_per_block is what one fine-tuning worker uses in one step.
        max_age: a row may be at most so many versions old when it is used for the first time.
        renderers: handles of actors.
    """

    rendering: Rendering
    board: VersionBoard
    max_age: int
    renderers: tuple[Any, ...] = ()

    def started(self) -> Online:
        """With its renderers, once all of them have their place."""
        import ray

        rendering = self.rendering
        places = {"num_cpus": rendering.num_cpus, "num_gpus": rendering.num_gpus}
        limits = {"max_restarts": MAX_RESTARTS, "max_task_retries": MAX_RESTARTS}
        remote: Any = ray.remote(**places, **limits)(_Actor)  # type: ignore[call-overload]
        renderers = tuple(remote.remote(max(1, int(rendering.num_cpus))) for _ in range(rendering.actors))
        ray.get([renderer.ready.remote() for renderer in renderers])
        return replace(self, renderers=renderers)

    def close(self) -> None:
        """Ends the renderers."""
        import ray

        for renderer in self.renderers:
            ray.kill(renderer)

    def ask(self, index: int, oldest: int) -> Any:
        """A reference to a block of the plan; `oldest` is the version it must have at least."""
        ids = self.rendering.plan.shards()[index]
        renderer = self.renderers[index % len(self.renderers)]
        return renderer.block.remote(self.rendering, self.board, ids.start, ids.stop, oldest)


class FreshRows(GeneratedRows):
    """The batches of a fine-tuning worker, each fresh one made of rows of at most `online.max_age` versions."""

    def __init__(self, config: Any, *, online: Online, **options: Any) -> None:
        super().__init__(config, tables=self._stream, **options)
        self.online = online
        self.dropped = 0
        self.newest = self.oldest_used = 0

    def _stream(self) -> Iterator[pa.Table]:
        import ray

        online = self.online
        mine = range(self.rank, len(online.rendering.plan.shards()), self.world_size)
        used_before = self._due(self.loop.step_index)  # by the steps before a checkpoint; a block is a batch
        used_before += self.held_batches if self.loop.step_index else 0
        ahead = -(-AHEAD * len(online.renderers) // self.world_size)
        flying: deque[Any] = deque()
        asked = 0
        for number, index in enumerate(mine):
            while asked < len(mine) and asked < number + max(1, ahead):
                oldest = 0 if asked < used_before else self.newest - online.max_age
                flying.append(online.ask(mine[asked], oldest))
                asked += 1
            table = ray.get(flying.popleft())
            while number >= used_before:
                version = _version(table)
                first = table.column("row_id")[0].as_py()
                fresh, self.newest = online.board.take(version, online.max_age, first, table.num_rows)
                if fresh:
                    self.oldest_used = max(self.oldest_used, self.newest - version)
                    break
                self.dropped += table.num_rows
                table = ray.get(online.ask(index, self.newest - online.max_age))
            yield table

    def metrics(self) -> dict[str, float]:
        told = {"dropped_rows": self.dropped, "generator_version": self.newest, "oldest_row": self.oldest_used}
        return super().metrics() | {name: float(value) for name, value in told.items()}


def _version(table: pa.Table) -> int:
    """Of the generator that made a block."""
    return int(table.column("generator_version").to_numpy().min())
