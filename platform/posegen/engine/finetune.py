"""Fine-tuning that consumes rows while they are rendered: a Ray Data stage feeds a Ray Train run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from posegen.engine.stream import bundles, execution_options, render_dataset
from posegen.engine.train import TrainOutcome, fingerprint_of, run_training
from posegen.experiment.rendering import Rendering, finish_folder, prepare_folder
from posegen.finetune.rows import GeneratedRows

if TYPE_CHECKING:
    from posegen.engine.online import Online

logger = logging.getLogger(__name__)

DATASET = "generated"


def rows_of_this_rank() -> Iterator[pa.Table]:
    """Blocks of this worker's shard of the Ray data set."""
    import ray.train

    shard = ray.train.get_dataset_shard(DATASET)
    yield from shard.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


def run_finetuning(  # noqa: PLR0913 - by keyword, each handed on to Ray Train
    config: Any,
    rendering: Rendering,
    *,
    storage: str | Path,
    name: str,
    kind: str = "finetune",
    seed: int = 0,
    keep_mb: float = 1024,
    stream_share: float = 0.5,
    online: Online | None = None,
    workers: int | tuple[int, int] = 1,
    **training: Any,
) -> TrainOutcome:
    """Renders rows and fine-tunes on them at the same time; they are kept as shards in `rendering.folder`.

    Args:
        config: of the loop.
        rendering: how the rows are made. What its folder holds is read, not rendered again.
        kind, workers and what else posegen.engine.train.run_training takes.
        keep_mb, stream_share: see GeneratedRows; keep_mb is of each worker.
        online: renderers that work with the newest weights of a generator in training; None: the rendering as it is.
    """
    from ray.train import DataConfig

    on_disk = prepare_folder(rendering)
    if on_disk:
        logger.info("%s: %d of %d rows are on disk already", name, on_disk, rendering.rows)
    training.setdefault(
        "fingerprint", fingerprint_of({"loop": config, "rows": [rendering.fingerprint, rendering.rows]})
    )
    options: dict[str, Any] = {"rows": rendering.rows, "seed": seed, "keep_mb": keep_mb, "stream_share": stream_share}
    if online is None:
        training |= {
            "batches": partial(GeneratedRows, tables=rows_of_this_rank, **options),
            "datasets": {
                DATASET: partial(render_dataset, rendering)
            },  # made anew at each start: it sees what is on disk
            "data_config": DataConfig(execution_options=execution_options(rendering), enable_shard_locality=False),
            "data_bundles": bundles(rendering),
        }
    else:
        from posegen.engine.online import FreshRows

        training["batches"] = partial(FreshRows, online=online, **options)
    try:
        return run_training(kind, config, storage=storage, name=name, workers=workers, **training)
    finally:
        finish_folder(rendering)
