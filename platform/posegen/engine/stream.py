"""Rendering as a stage of Ray Data: rows are made by a pool of actors while others consume them.

A block is a range of row ids. The stage renders it, or reads it where a shard on disk has it already, so that a
restart, a second pass and a later stage see the same rows in the same order and nothing is rendered twice. Arrow-native
fixed-shape tensors go through the object store and reach torch without a copy.
"""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from posegen.engine.nodes import unshared
from posegen.engine.private_ray import native_tensors
from posegen.errors import ConfigError
from posegen.experiment.rendering import MB, BlockRenderer, Rendering, finish_folder, prepare_folder
from posegen.machine import keep_freed_memory

MAX_BLOCKS = 4096  # of the input; beyond it, a task renders several blocks
MAX_RESTARTS = 3  # of one actor; without a limit one that runs out of memory would be started again for ever


def check_folder(rendering: Rendering) -> None:
    """EngineError on a machine that does not see the folder which `prepare_folder` made on the driver's."""
    folder = rendering.shards
    if folder is not None and folder.local and not os.path.isdir(folder.path):
        raise unshared(folder.path, [socket.gethostname()])


def bundles(rendering: Rendering) -> list[dict[str, float]]:
    """What the actors ask of the cluster."""
    one = {"CPU": float(rendering.num_cpus)} | ({"GPU": float(rendering.num_gpus)} if rendering.num_gpus else {})
    return [one] * rendering.actors


class _RenderActor:
    """The Ray Data map function: rows of (first, stop) in, blocks out."""

    def __init__(self, rendering: Rendering, store_bytes: float, threads: int) -> None:
        import torch

        keep_freed_memory()
        torch.set_num_threads(threads)
        self.renderer = BlockRenderer(rendering, store_bytes)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        check_folder(self.renderer.rendering)
        for first, stop in zip(batch.column("first").to_pylist(), batch.column("stop").to_pylist()):
            yield self.renderer(range(first, stop))


def render_dataset(rendering: Rendering) -> Any:
    """The lazy ray.data.Dataset of a stage's rows: nothing is rendered until someone iterates."""
    import ray
    import ray.data
    from ray.util.annotations import RayDeprecationWarning

    quiet_context = native_tensor_context()
    quiet_context.execution_options = execution_options(rendering)
    store = min(node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"])
    shards = rendering.plan.shards()
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
            fn_constructor_kwargs={
                "rendering": rendering,
                "store_bytes": store,
                "threads": max(1, int(rendering.num_cpus)),
            },
            batch_size=per_task,  # a block of the input; None is refused where GPUs are asked for
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=min(rendering.actors, len(tasks)), max_tasks_in_flight_per_actor=2),
            num_cpus=rendering.num_cpus,
            num_gpus=rendering.num_gpus or None,
            max_restarts=MAX_RESTARTS,
            max_task_retries=MAX_RESTARTS,
        )


def native_tensor_context() -> Any:
    """A DataContext in which tensors are Arrow's own fixed-shape type, and nothing is drawn on the terminal."""
    from ray.data import DataContext

    context = DataContext.get_current().copy()
    context.arrow_fixed_shape_tensor_format = native_tensors()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return context


def execution_options(rendering: Rendering) -> Any:
    """Order and buffering of a rendering, as Ray Data and Ray Train take them."""
    from ray.data import ExecutionOptions, ExecutionResources

    options = ExecutionOptions(preserve_order=rendering.preserve_order)
    if rendering.buffer_mb is not None:
        options.resource_limits = ExecutionResources(object_store_memory=rendering.buffer_mb * MB)
    return options


def render_to_disk(rendering: Rendering, progress: Callable[[int], None] | None = None) -> Mapping[str, float]:
    """Renders a whole data set into its folder: rows that are there are kept, the others are made.

    Only row ids travel through the object store; `progress` is called with the rows done.
    """
    from posegen.engine.failures import explain

    if rendering.folder is None:
        raise ConfigError("rendering to disk needs a folder", where="rendering")
    before = prepare_folder(rendering)
    done = before
    if before < rendering.rows:
        done = 0
        try:
            dataset = render_dataset(replace(rendering, columns=("row_id",)))
            for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
                done += table.num_rows
                if progress is not None:
                    progress(done)
        except Exception as error:
            raise explain(error, "rendering") from error
    return {"rows": finish_folder(rendering), "rendered": rendering.rows - before}
