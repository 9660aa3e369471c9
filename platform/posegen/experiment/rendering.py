"""Rows to be rendered, block by block: made once, kept as shards, read where they are on disk already.

A block is a range of row ids. Who makes the blocks, actors of a cluster (posegen.engine.stream) or this process
(posegen.experiment.in_process), changes nothing in them: a restart, a second pass and a later stage see the same rows.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from posegen.errors import ConfigError, DataError, EngineError
from posegen.shards.folder import Folder
from posegen.shards.reader import read_shard
from posegen.shards.writer import Plan, complete_parts, part_ids, write_manifest, write_shard

logger = logging.getLogger(__name__)

RenderRows = Callable[[np.ndarray], pa.Table]  # row ids (N,) int64 -> their N rows
Factory = Callable[[Any], RenderRows]  # built once in each actor

MB = 2**20
STORE_SHARE = 8  # a block may take 1/8 of the object store: several are in flight at once


@dataclass(frozen=True)
class Rendering:
    """How rows are rendered.

    Args:
        factory: called with `config` in each actor; a function of a module, so that it can travel.
        config: plain and picklable.
        rows: ids 0..rows-1 are rendered.
        rows_per_block: rows that are made, sent and stored together.
        actors: renderers at work side by side.
        num_cpus, num_gpus: of each; a fraction of a GPU lets several share one.
        folder: where blocks are kept as shards (a path or fsspec URL); None: nowhere.
        fingerprint, command: of the shards' plan, see posegen.shards.writer.Plan.
        preserve_order: rows come in order of their ids: same seed, same numbers.
        buffer_mb: of the object store that may hold rows nobody has taken yet; less makes fresher rows.
        columns: those that are sent on; None: all. Shards on disk always hold all.
    """

    factory: Factory
    config: Any
    rows: int
    rows_per_block: int = 128
    actors: int = 1
    num_cpus: float = 1
    num_gpus: float = 0
    folder: str | Path | None = None
    fingerprint: str = ""
    command: str = "posegen run"
    preserve_order: bool = True
    buffer_mb: int | None = None
    columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("rows", "rows_per_block", "actors"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}", where="rendering")

    @property
    def plan(self) -> Plan:
        return Plan(self.rows, self.rows_per_block, self.fingerprint, self.command)

    @property
    def shards(self) -> Folder | None:
        """Where the blocks are kept."""
        return None if self.folder is None else Folder(self.folder)


class BlockRenderer:
    """Makes one block after another; runs inside an actor, or in this process."""

    def __init__(self, rendering: Rendering, store_bytes: float | None = None) -> None:
        self.rendering = rendering
        self.folder = None if rendering.folder is None else Folder(rendering.folder)
        self.parts: dict[str, range] = {}
        if self.folder is not None:
            named = {name: part_ids(name) for name in self.folder.sizes()}
            self.parts = {name: ids for name, ids in named.items() if ids is not None}
        self.store_bytes = store_bytes
        self._render: RenderRows | None = None

    def __call__(self, ids: range) -> pa.Table:
        tables = self._stored(ids)
        have = np.zeros(len(ids), bool)
        for table in tables:
            have[table.column("row_id").to_numpy() - ids.start] = True
        edges = np.flatnonzero(np.diff(np.concatenate([[1], have.astype(int), [1]])))
        for first, stop in zip(edges[::2], edges[1::2]):
            tables.append(self._make(range(ids.start + int(first), ids.start + int(stop))))
        tables.sort(key=lambda table: table.column("row_id")[0].as_py())
        block = tables[0] if len(tables) == 1 else pa.concat_tables(tables).combine_chunks()
        if self.store_bytes and block.nbytes > self.store_bytes / STORE_SHARE:
            raise EngineError(
                f"the object store is too small: a block of {len(ids)} rows has {block.nbytes / MB:.0f} MB, the store "
                f"{self.store_bytes / MB:.0f} MB, and several blocks are in flight at once",
                where="rendering",
                next_command="lower dataset.rows_per_block, or raise engine.object_store_mb",
            )
        return block if self.rendering.columns is None else block.select(list(self.rendering.columns))

    def _stored(self, ids: range) -> list[pa.Table]:
        """Those of the rows that shards hold. A damaged shard is removed: its rows are then made again."""
        tables = []
        for name, held in list(self.parts.items()):
            first, stop = max(held.start, ids.start), min(held.stop, ids.stop)
            if first >= stop or self.folder is None:
                continue
            try:
                table = read_shard(self.folder, name, command=self.rendering.command)
            except DataError as error:
                logger.warning("%s: %s; its rows are rendered again", name, error.what)
                self.folder.remove(name)
                del self.parts[name]
                continue
            tables.append(table.slice(first - held.start, stop - first))
        return tables

    def _make(self, ids: range) -> pa.Table:
        if self._render is None:  # not before it is needed: reading a finished data set loads no weights
            self._render = self.rendering.factory(self.rendering.config)
        table = self._render(np.arange(ids.start, ids.stop, dtype=np.int64))
        if table.column("row_id").to_pylist() != list(ids):
            raise DataError(f"the renderer was asked for rows {ids.start}..{ids.stop - 1} and gave others")
        if self.folder is not None:
            entry = write_shard(self.folder, table, self.rendering.fingerprint)
            self.parts[entry.file] = entry.ids
        return table


def prepare_folder(rendering: Rendering) -> int:
    """Clears the folder of what a kill left and of damaged shards; returns how many rows it holds already.

    DataError when the folder holds rows of another configuration.
    """
    if rendering.folder is None:
        return 0
    folder = Folder(rendering.folder)
    if folder.local:
        os.makedirs(folder.path, exist_ok=True)
    folder.clean()
    return sum(map(len, complete_parts(folder, rendering.fingerprint, drop_damaged=True).values()))


def finish_folder(rendering: Rendering) -> int:
    """Writes the manifest of what is on disk; returns how many rows that is."""
    if rendering.folder is None:
        return 0
    return sum(entry.rows for entry in write_manifest(Folder(rendering.folder), rendering.plan))
