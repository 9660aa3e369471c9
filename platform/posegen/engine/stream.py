"""Rendering as a stage of Ray Data: rows are made by a pool of actors while others consume them.

A block is a range of row ids. The stage renders it, or reads it where a shard on disk has it already, so that a
restart, a second pass and a later stage see the same rows in the same order and nothing is rendered twice. Arrow-native
fixed-shape tensors go through the object store and reach torch without a copy.
"""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from posegen.engine.nodes import unshared
from posegen.errors import ConfigError, DataError, EngineError
from posegen.shards.folder import Folder
from posegen.shards.reader import read_shard
from posegen.shards.writer import Plan, complete_parts, part_ids, write_manifest, write_shard

logger = logging.getLogger(__name__)

RenderRows = Callable[[np.ndarray], pa.Table]  # row ids (N,) int64 -> their N rows
Factory = Callable[[dict[str, Any]], RenderRows]  # built once in each actor

MB = 2**20
MAX_BLOCKS = 4096  # of the input; beyond it, a task renders several blocks
MAX_RESTARTS = 3  # of one actor; without a limit one that runs out of memory would be started again for ever
STORE_SHARE = 8  # a block may take 1/8 of the object store: several are in flight at once


@dataclass(frozen=True)
class Stage:
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
    config: dict[str, Any]
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
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}", where="rendering stage")

    @property
    def plan(self) -> Plan:
        return Plan(self.rows, self.rows_per_block, self.fingerprint, self.command)

    def bundles(self) -> list[dict[str, float]]:
        """What the actors ask of the cluster."""
        one = {"CPU": float(self.num_cpus)} | ({"GPU": float(self.num_gpus)} if self.num_gpus else {})
        return [one] * self.actors


class BlockRenderer:
    """Makes one block after another; runs inside an actor, or in this process."""

    def __init__(self, stage: Stage, store_bytes: float | None = None) -> None:
        self.stage = stage
        self.folder = None if stage.folder is None else Folder(stage.folder)
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
                where="rendering stage",
                next_command="lower dataset.rows_per_block, or raise engine.object_store_mb",
            )
        return block if self.stage.columns is None else block.select(list(self.stage.columns))

    def check_folder(self) -> None:
        """EngineError on a machine that does not see the folder which `prepare_folder` made on the driver's."""
        if self.folder is not None and self.folder.local and not os.path.isdir(self.folder.path):
            raise unshared(self.folder.path, [socket.gethostname()])

    def _stored(self, ids: range) -> list[pa.Table]:
        """Those of the rows that shards hold. A damaged shard is removed: its rows are then made again."""
        tables = []
        for name, held in list(self.parts.items()):
            first, stop = max(held.start, ids.start), min(held.stop, ids.stop)
            if first >= stop or self.folder is None:
                continue
            try:
                table = read_shard(self.folder, name, command=self.stage.command)
            except DataError as error:
                logger.warning("%s: %s; its rows are rendered again", name, error.what)
                self.folder.remove(name)
                del self.parts[name]
                continue
            tables.append(table.slice(first - held.start, stop - first))
        return tables

    def _make(self, ids: range) -> pa.Table:
        if self._render is None:  # not before it is needed: reading a finished data set loads no weights
            self._render = self.stage.factory(self.stage.config)
        table = self._render(np.arange(ids.start, ids.stop, dtype=np.int64))
        if table.column("row_id").to_pylist() != list(ids):
            raise DataError(f"the renderer was asked for rows {ids.start}..{ids.stop - 1} and gave others")
        if self.folder is not None:
            entry = write_shard(self.folder, table, self.stage.fingerprint)
            self.parts[entry.file] = entry.ids
        return table


class _RenderActor:
    """The Ray Data map function: rows of (first, stop) in, blocks out."""

    def __init__(self, stage: Stage, store_bytes: float, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.renderer = BlockRenderer(stage, store_bytes)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        self.renderer.check_folder()
        for first, stop in zip(batch.column("first").to_pylist(), batch.column("stop").to_pylist()):
            yield self.renderer(range(first, stop))


def render_dataset(stage: Stage) -> Any:
    """The lazy ray.data.Dataset of a stage's rows: nothing is rendered until someone iterates."""
    import ray
    import ray.data
    from ray.util.annotations import RayDeprecationWarning

    quiet_context = native_tensor_context()
    quiet_context.execution_options = execution_options(stage)
    store = min(node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"])
    shards = stage.plan.shards()
    per_task = -(-len(shards) // MAX_BLOCKS)
    tasks = [
        pa.table({"first": [ids.start for ids in group], "stop": [ids.stop for ids in group]})
        for group in (shards[i : i + per_task] for i in range(0, len(shards), per_task))
    ]
    with ray.data.DataContext.current(quiet_context), warnings.catch_warnings():
        # max_restarts has no other way in; the way goes with Ray 2.64, and Ray is pinned below it
        warnings.simplefilter("ignore", RayDeprecationWarning)
        # from_arrow would run a task of one whole CPU for each table, asked of nobody: where trainers and renderers
        # leave less free on every node, it would wait for ever
        return ray.data.from_blocks(tasks).map_batches(
            _RenderActor,
            fn_constructor_kwargs={"stage": stage, "store_bytes": store, "threads": max(1, int(stage.num_cpus))},
            batch_size=per_task,  # a block of the input; None is refused where GPUs are asked for
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=stage.actors, max_tasks_in_flight_per_actor=2),
            num_cpus=stage.num_cpus,
            num_gpus=stage.num_gpus or None,
            max_restarts=MAX_RESTARTS,
            max_task_retries=MAX_RESTARTS,
        )


def native_tensor_context() -> Any:
    """A DataContext in which tensors are Arrow's own fixed-shape type, and nothing is drawn on the terminal."""
    from ray.data import DataContext
    from ray.data.extensions import FixedShapeTensorFormat  # documented nowhere; tested in tests/engine

    context = DataContext.get_current().copy()
    context.arrow_fixed_shape_tensor_format = FixedShapeTensorFormat.ARROW_NATIVE
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return context


def execution_options(stage: Stage) -> Any:
    """Order and buffering of a stage, as Ray Data and Ray Train take them."""
    from ray.data import ExecutionOptions, ExecutionResources

    options = ExecutionOptions(preserve_order=stage.preserve_order)
    if stage.buffer_mb is not None:
        options.resource_limits = ExecutionResources(object_store_memory=stage.buffer_mb * MB)
    return options


def prepare_folder(stage: Stage) -> int:
    """Clears the folder of what a kill left and of damaged shards; returns how many rows it holds already.

    DataError when the folder holds rows of another configuration.
    """
    if stage.folder is None:
        return 0
    folder = Folder(stage.folder)
    if folder.local:
        os.makedirs(folder.path, exist_ok=True)
    folder.clean()
    return sum(map(len, complete_parts(folder, stage.fingerprint, drop_damaged=True).values()))


def finish_folder(stage: Stage) -> int:
    """Writes the manifest of what is on disk; returns how many rows that is."""
    if stage.folder is None:
        return 0
    return sum(entry.rows for entry in write_manifest(Folder(stage.folder), stage.plan))


def render_to_disk(stage: Stage, progress: Callable[[int], None] | None = None) -> Mapping[str, float]:
    """Renders a whole data set into its folder: rows that are there are kept, the others are made.

    Only row ids travel through the object store; `progress` is called with the rows done.
    """
    from dataclasses import replace

    from posegen.engine.failures import explain

    if stage.folder is None:
        raise ConfigError("rendering to disk needs a folder", where="rendering stage")
    before = prepare_folder(stage)
    done = before
    if before < stage.rows:
        done = 0
        try:
            dataset = render_dataset(replace(stage, columns=("row_id",)))
            for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
                done += table.num_rows
                if progress is not None:
                    progress(done)
        except Exception as error:
            raise explain(error, "rendering") from error
    return {"rows": finish_folder(stage), "rendered": stage.rows - before}
