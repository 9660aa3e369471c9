"""Pictures of a data set on disk, read and cropped by Ray Data: on all nodes of a cluster, in order, bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from posegen.benchmarks.readers.frames import FrameBenchmark, FrameError, FrameRecord, load_frame

BLOCK = 32  # pictures a task reads


def _load_block(batch: pa.Table, records: Any, image_size: int, stretch: bool) -> pa.Table:
    """Rows of indices in; crops, or what is wrong with the picture, out."""
    import ray

    chosen = ray.get(records)
    pixels = np.zeros((batch.num_rows, 3, image_size, image_size), np.float32)
    problems: list[dict[str, str] | None] = [None] * batch.num_rows
    for row, index in enumerate(batch.column("index").to_pylist()):
        try:
            pixels[row] = load_frame(chosen[index], image_size, stretch)
        except FrameError as error:
            problems[row] = {"kind": error.kind, "what": error.what, "where": str(error.where)}
    kinds = {"kind": pa.string(), "what": pa.string(), "where": pa.string()}
    return pa.table(
        {
            "index": batch.column("index"),
            "pixels": pa.FixedShapeTensorArray.from_numpy_ndarray(pixels),
            "problem": pa.array(problems, pa.struct(list(kinds.items()))),
        }
    )


def by_ray(
    benchmark: FrameBenchmark, records: Sequence[FrameRecord], ahead: int
) -> Iterator[tuple[FrameRecord, NDArray[np.float32] | FrameError]]:
    """A posegen.benchmarks.readers.frames.Loader: tasks of Ray Data instead of threads. Ray must be connected.

    The pictures must be where every node sees them.
    """
    del ahead  # Ray Data's own back-pressure bounds what waits
    import ray
    import ray.data

    from posegen.engine.stream import native_tensor_context

    context = native_tensor_context()
    context.execution_options.preserve_order = True
    options = benchmark.options
    load = partial(_load_block, records=ray.put(list(records)), image_size=options.image_size, stretch=options.stretch)
    blocks = [
        pa.table({"index": list(range(start, min(start + BLOCK, len(records))))})
        for start in range(0, len(records), BLOCK)
    ]
    with ray.data.DataContext.current(context):
        dataset = ray.data.from_arrow(blocks).map_batches(load, batch_size=None, batch_format="pyarrow")
        tables: Iterable[Any] = dataset.iter_batches(batch_size=None, batch_format="pyarrow")
        for table in tables:
            pixels = table.column("pixels").combine_chunks()
            crops = (pixels.chunk(0) if isinstance(pixels, pa.ChunkedArray) else pixels).to_numpy_ndarray()
            rows = zip(table.column("index").to_pylist(), table.column("problem").to_pylist(), crops, strict=True)
            for index, problem, crop in rows:
                if problem is None:
                    yield records[index], crop.copy()  # a view would pin the whole block in the object store
                else:
                    yield records[index], FrameError(problem["what"], where=problem["where"], kind=problem["kind"])
