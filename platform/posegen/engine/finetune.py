"""Fine-tuning that consumes rows while they are rendered: a Ray Data stage feeds a Ray Train run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from posegen.engine.stream import bundles, execution_options, render_dataset
from posegen.engine.terms import Claim, Feed, Place, Reading, Reports
from posegen.engine.train import TrainOutcome, fingerprint_of, run_training
from posegen.experiment.rendering import Rendering, finish_folder, prepare_folder
from posegen.finetune.rows import Begun, GeneratedRows

if TYPE_CHECKING:
    from posegen.engine.online import Online

logger = logging.getLogger(__name__)

DATASET = "generated"


def rows_of_this_rank() -> Iterator[pa.Table]:
    """Blocks of this worker's shard of the Ray data set."""
    import ray.train

    shard = ray.train.get_dataset_shard(DATASET)
    yield from shard.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


def begun_rows() -> Begun:
    """The same, asked for at once: a stage of Ray Data starts when it is asked, and its actors take seconds."""
    return Begun(rows_of_this_rank)


def run_finetuning(
    config: Any, rendering: Rendering, place: Place, *, claim: Claim = Claim(), reports: Reports = Reports(),
    reading: Reading = Reading(), online: Online | None = None, kind: str = "finetune",
) -> TrainOutcome:  # fmt: skip
    """Renders rows and fine-tunes on them at the same time; they are kept as shards in `rendering.folder`.

    Args:
        config: of the loop.
        rendering: how the rows are made. What its folder holds is read, not rendered again.
        place, claim, reports, kind: see posegen.engine.train.run_training.
        reading: how the workers read.
        online: renderers that work with the newest weights of a generator in training; None: the rendering as it is.
    """
    on_disk = prepare_folder(rendering)
    if on_disk:
        logger.info("%s: %d of %d rows are on disk already", place.name, on_disk, rendering.rows)
    if place.fingerprint is None:
        whole = fingerprint_of({"loop": config, "rows": [rendering.fingerprint, rendering.rows]})
        place = replace(place, fingerprint=whole)
    feed = _streamed(rendering, reading) if online is None else _fresh(rendering, reading, online)
    try:
        return run_training(kind, config, place, claim=claim, feed=feed, reports=reports)
    finally:
        finish_folder(rendering)


def _streamed(rendering: Rendering, reading: Reading) -> Feed:
    """Rows of a Ray Data stage, or of the disk where they are there."""
    from ray.train import DataConfig

    return Feed(
        batches=partial(GeneratedRows, rows=rendering.rows, **vars(reading)),
        begin=begun_rows,
        # Made anew at each start: it sees what is on disk.
        datasets={DATASET: partial(render_dataset, rendering)},
        data_config=DataConfig(execution_options=execution_options(rendering), enable_shard_locality=False),
        bundles=bundles(rendering),
    )


def _fresh(rendering: Rendering, reading: Reading, online: Online) -> Feed:
    """Rows of renderers that follow a generator in training."""
    from posegen.engine.online import FreshRows

    return Feed(batches=partial(FreshRows, online=online, rows=rendering.rows, **vars(reading)))
