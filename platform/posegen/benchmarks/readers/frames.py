"""Benchmarks on pictures of disk: lightweight records, lazy parallel loading, and frames that cannot be read.

A reader turns annotations into records (picklable, a few hundred bytes each) and a truth. `frames()` and `load_frame`
are what Ray Data maps over; `batches` does the same with a pool of threads, in order.
"""

from __future__ import annotations

import copy
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol as Protocol_

import numpy as np
import torch
from numpy.typing import NDArray

from posegen.benchmarks.measure.viewpoint import view_of_joints
from posegen.benchmarks.protocol import Benchmark, EvalBatch, Protocol, Skipped
from posegen.benchmarks.readers.crop import crop, read_picture
from posegen.benchmarks.readers.picture_cache import PictureCache
from posegen.benchmarks.readers.truth import Truth
from posegen.benchmarks.readers.turned import turned_upright
from posegen.benchmarks.readers.views import Views, in_crop
from posegen.body.joint_sets import joint_set
from posegen.errors import ConfigError, DataError
from posegen.estimator.crop import CropConvention

MAX_BAD_SHARE = 0.01
_NAMED = 5  # bad frames that an error lists
_SAMPLE = 20  # pictures that are looked for before anything is read


@dataclass(frozen=True)
class FrameRecord:
    """One person in one picture."""

    id: str
    image: str  # path
    centre_px: tuple[float, float]
    scale: float  # side of the box / 200 px
    group: str  # the sequence, whose pictures err alike
    index: int  # row of the truth
    frame: int = 0
    action: str = ""
    size_px: tuple[int, int] | None = None  # width, height that the annotations are for
    track: str = ""  # one person in one camera, where a group holds several; "": the group
    outside: str = "black"  # what stands where the picture ends: black or edge


@dataclass(frozen=True)
class FrameOptions:
    """How pictures are read; the same for every data set."""

    image_size: int = 224  # px, side of the crop; estimators resize by themselves
    stretch: bool = True  # SPIN's contrast stretch
    max_bad_share: float = MAX_BAD_SHARE  # of missing and damaged pictures, above which the evaluation stops
    workers: int = 4  # threads that read pictures
    limit: int | None = None  # only the first n frames, for a quick look
    stride: int = 1  # further thinning, on top of the protocol's own stride

    def __post_init__(self) -> None:
        if not 0 <= self.max_bad_share <= 1:
            raise ConfigError(f"max_bad_share is a share between 0 and 1, not {self.max_bad_share}")
        if self.image_size < 8 or self.workers < 1 or self.stride < 1:
            raise ConfigError("image_size must be at least 8, workers and stride at least 1")


class FrameError(DataError):
    """One frame cannot be used; `kind` is "missing" or "damaged"."""

    def __init__(self, what: str, *, where: object | None = None, choices=None, next_command=None, kind="damaged"):
        super().__init__(what, where=where, choices=choices, next_command=next_command)
        self.kind = kind

    def __reduce__(self):  # keeps the kind when Ray carries the error between processes
        return (_frame_error, (self.what, self.where, self.choices, self.next_command, self.kind))


def _frame_error(what, where, choices, next_command, kind) -> FrameError:
    return FrameError(what, where=where, choices=choices, next_command=next_command, kind=kind)


def load_frame(
    record: FrameRecord,
    image_size: int = 224,
    stretch: bool = True,
    read: Callable[[str], NDArray] = read_picture,
) -> NDArray[np.float32]:
    """The crop (3,S,S) of a record. Raises FrameError, which names the picture, when it is missing or damaged."""
    try:
        picture = read(record.image)
    except DataError as error:
        if not Path(record.image).exists():
            raise FrameError("there is no such picture", where=record.image, kind="missing") from None
        raise FrameError(error.what, where=record.image) from error
    height, width = picture.shape[:2]
    if record.size_px is not None and (width, height) != record.size_px:
        raise FrameError(
            f"the picture is {width}x{height} px, its annotations are for {record.size_px[0]}x{record.size_px[1]}",
            where=record.image,
        )
    try:
        return crop(picture, record.centre_px, record.scale, image_size, stretch, record.outside)
    except DataError as error:
        raise FrameError(error.what, where=record.image) from error


class Loader(Protocol_):
    """Reads records in their order; at most about `ahead` crops wait in memory."""

    def __call__(
        self, benchmark: FrameBenchmark, records: Sequence[FrameRecord], ahead: int
    ) -> Iterator[tuple[FrameRecord, NDArray[np.float32] | FrameError]]: ...


def by_threads(
    benchmark: FrameBenchmark, records: Sequence[FrameRecord], ahead: int
) -> Iterator[tuple[FrameRecord, NDArray[np.float32] | FrameError]]:
    """The loader of one machine: a pool of threads. posegen.engine.frames.by_ray is that of a cluster."""
    pending: deque[tuple[FrameRecord, Future[NDArray[np.float32]]]] = deque()
    remaining = iter(records)
    with ThreadPoolExecutor(benchmark.options.workers, thread_name_prefix="frames") as pool:
        try:
            while True:
                while len(pending) < ahead and (record := next(remaining, None)) is not None:
                    pending.append((record, pool.submit(benchmark.load_frame, record)))
                if not pending:
                    return
                record, future = pending.popleft()
                try:
                    yield record, future.result()
                except FrameError as error:
                    yield record, error
        finally:
            for _, future in pending:
                future.cancel()


class FrameBenchmark(Benchmark):
    """A benchmark of records; readers build it.

    Args:
        truth: gives the ground truth of rows of records.
        where: the annotations, for messages.
        views: tells cameras in the picture, for those who draw; None where the data set says nothing of them.
        left_out: rows that the reader left out: reason -> their names.
    """

    def __init__(
        self,
        name: str,
        protocol: Protocol,
        records: Sequence[FrameRecord],
        truth: Truth,
        options: FrameOptions,
        where: object,
        views: Views | None = None,
        left_out: Mapping[str, list[str]] | None = None,
    ) -> None:
        self.name, self.truth, self.options, self.where = name, truth, options, where
        self.protocol, self.views = protocol, views
        self._left_out = {reason: list(names) for reason, names in (left_out or {}).items() if names}
        chosen = list(records)[:: options.stride][: options.limit]
        if not chosen:
            raise DataError(f"{name}: the annotations hold no usable frame", where=where, next_command="posegen doctor")
        self.records = chosen
        self.crop: CropConvention | None = None
        self.skipped = Skipped(by_reader=self._left_out)
        self.loader: Loader = by_threads
        self._pictures = PictureCache()
        self._people = Counter(record.image for record in chosen)
        # A sample spread over all of it: single sequences, the first among them, may lack their pictures.
        sample = [chosen[i] for i in np.unique(np.linspace(0, len(chosen) - 1, _SAMPLE).round().astype(int))]
        if not any(Path(record.image).is_file() for record in sample):
            raise DataError(
                f"{name}: none of {len(sample)} pictures looked for, spread over all of it, is there",
                where=chosen[0].image,
                next_command="posegen evaluate ... benchmark.images=FOLDER (the folder that the names above start in)",
            )

    def __len__(self) -> int:
        return len(self.records)

    def cropped_for(self, crop: CropConvention) -> FrameBenchmark:
        """The same frames in an estimator's crop, at its own size.

        To be turned, a picture is first read twice as wide: a turned square needs the square root of 2, a person that
        is longer once turned as much again.
        """
        wide = 2.0 if crop.upright else 1.0
        other = copy.copy(self)
        other.crop = crop
        records = (replace(r, scale=r.scale * crop.margin * wide, outside=crop.outside) for r in self.records)
        other.records = list(records)
        size = round(crop.size_px * wide)
        other.options = replace(self.options, image_size=size, stretch=crop.stretch and self.options.stretch)
        other.protocol = replace(self.protocol, boxes=crop.describe(self.protocol.boxes))
        return other

    def frames(self) -> list[FrameRecord]:
        """The records, in order: small, picklable, what a Ray Data stage starts from."""
        return list(self.records)

    def load_frame(self, record: FrameRecord) -> NDArray[np.float32]:
        """The crop (3,S,S) in [0,1] of one record; raises FrameError."""
        read = self._pictures.read if self._people[record.image] > 1 else read_picture
        return load_frame(record, self.options.image_size, self.options.stretch, read)

    def batches(self, batch_size: int) -> Iterator[EvalBatch]:
        """Batches in the records' order; frames that cannot be read are left out, counted and named in `skipped`."""
        self.skipped = Skipped(by_reader=self._left_out)
        kept: list[tuple[FrameRecord, NDArray[np.float32]]] = []
        for record, loaded in self.loader(self, self.records, 2 * batch_size):
            if isinstance(loaded, FrameError):
                self._skip(record, loaded)
                continue
            kept.append((record, loaded))
            if len(kept) == batch_size:
                yield self.batch(kept)
                kept = []
        if kept:
            yield self.batch(kept)

    def _skip(self, record: FrameRecord, error: FrameError) -> None:
        (self.skipped.missing if error.kind == "missing" else self.skipped.damaged).append(record.id)
        allowed = self.options.max_bad_share * len(self.records)
        if len(self.skipped) > allowed:
            names = [*self.skipped.missing, *self.skipped.damaged]
            listed = ", ".join(names[:_NAMED]) + (" ..." if len(names) > _NAMED else "")
            raise DataError(
                f"{self.name}: {len(names)} of {len(self.records)} frames cannot be used, more than "
                f"{self.options.max_bad_share:.1%} ({listed}); the last: {error.what}",
                where=error.where,
                next_command="complete the data set, or allow more with benchmark.max_bad_share=0.05",
            ) from error

    def batch(self, kept: Sequence[tuple[FrameRecord, NDArray[np.float32]]]) -> EvalBatch:
        """Loaded frames with their ground truth."""
        records = [record for record, _ in kept]
        truth = self.truth([record.index for record in records])
        names = joint_set(self.protocol.joint_set)
        camera = None
        if self.views is not None:
            size = self.options.image_size
            camera = in_crop(self.views([r.index for r in records], truth.joints), records, size)
        images = torch.from_numpy(np.stack([pixels for _, pixels in kept]))
        if self.crop is not None and self.crop.upright:
            images, truth = turned_upright(images, truth, self.crop, names)
            camera = None  # that of the picture before it was turned
        view = view_of_joints(truth.joints.float(), names, truth.valid)
        return EvalBatch(
            images=images,
            joints=truth.joints,
            joint_set=self.protocol.joint_set,
            ids=[record.id for record in records],
            groups=[record.group for record in records],
            vertices=truth.vertices,
            pose=truth.pose,
            betas=truth.betas,
            azimuth_rad=None if view is None else view[0],
            elevation_rad=None if view is None else view[1],
            valid=truth.valid,
            frames=[record.frame for record in records],
            actions=[record.action for record in records],
            tracks=[record.track or record.group for record in records],
            camera=camera,
        )

    def examples(self, ids: Sequence[str]) -> Iterator[EvalBatch]:
        by_id = {record.id: record for record in self.records}
        for name in ids:
            yield self.batch([(by_id[name], self.load_frame(by_id[name]))])
