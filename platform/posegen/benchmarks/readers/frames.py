"""Benchmarks on pictures of disk: lightweight records, lazy parallel loading, and frames that cannot be read.

A reader turns annotations into records (picklable, a few hundred bytes each) and a truth. `frames()` and `load_frame`
are what Ray Data maps over; `batches` does the same with a pool of threads, in order.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol as Protocol_

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from posegen.benchmarks.measure.viewpoint import view_of_joints
from posegen.benchmarks.protocol import EvalBatch, Protocol
from posegen.benchmarks.readers.crop import crop, read_picture
from posegen.benchmarks.readers.picture_cache import PictureCache
from posegen.benchmarks.readers.truth import Truth
from posegen.body.joint_sets import joint_set
from posegen.errors import ConfigError, DataError

MAX_BAD_SHARE = 0.01
_NAMED = 5  # bad frames that an error lists


@dataclass(frozen=True)
class FrameRecord:
    """One person in one picture."""

    id: str
    image: str  # path
    centre_px: tuple[float, float]
    scale: float  # side of the box / 200 px
    group: str
    index: int  # row of the truth
    frame: int = 0
    action: str = ""
    size_px: tuple[int, int] | None = None  # width, height that the annotations are for


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


@dataclass
class Skipped:
    """Frames that were left out of the last pass, by name."""

    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.missing) + len(self.damaged)


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
    except FileNotFoundError:
        raise FrameError("there is no such picture", where=record.image, kind="missing") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FrameError(f"the picture cannot be read: {error}", where=record.image) from error
    height, width = picture.shape[:2]
    if record.size_px is not None and (width, height) != record.size_px:
        raise FrameError(
            f"the picture is {width}x{height} px, its annotations are for {record.size_px[0]}x{record.size_px[1]}",
            where=record.image,
        )
    try:
        return crop(picture, record.centre_px, record.scale, image_size, stretch)
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


class FrameBenchmark:
    """A benchmark of records; readers build it.

    Args:
        truth: gives the ground truth of rows of records.
        where: the annotations, for messages.
    """

    def __init__(
        self,
        name: str,
        protocol: Protocol,
        records: Sequence[FrameRecord],
        truth: Truth,
        options: FrameOptions,
        where: object,
    ) -> None:
        self.name, self.protocol, self.truth, self.options, self.where = name, protocol, truth, options, where
        chosen = list(records)[:: options.stride][: options.limit]
        if not chosen:
            raise DataError(f"{name}: the annotations hold no usable frame", where=where, next_command="posegen doctor")
        self.records = chosen
        self.skipped = Skipped()
        self.loader: Loader = by_threads
        self._pictures = PictureCache()
        self._people = Counter(record.image for record in chosen)
        if not any(Path(record.image).is_file() for record in chosen[:20]):
            raise DataError(
                f"{name}: none of the first pictures is there",
                where=chosen[0].image,
                next_command="posegen evaluate ... benchmark.images=FOLDER (the folder that the names above start in)",
            )

    def __len__(self) -> int:
        return len(self.records)

    def frames(self) -> list[FrameRecord]:
        """The records, in order: small, picklable, what a Ray Data stage starts from."""
        return list(self.records)

    def load_frame(self, record: FrameRecord) -> NDArray[np.float32]:
        """The crop (3,S,S) in [0,1] of one record; raises FrameError."""
        read = self._pictures.read if self._people[record.image] > 1 else read_picture
        return load_frame(record, self.options.image_size, self.options.stretch, read)

    def batches(self, batch_size: int) -> Iterator[EvalBatch]:
        """Batches in the records' order; frames that cannot be read are left out, counted and named in `skipped`."""
        self.skipped = Skipped()
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
        view = view_of_joints(truth.joints.float(), joint_set(self.protocol.joint_set))
        return EvalBatch(
            images=torch.from_numpy(np.stack([pixels for _, pixels in kept])),
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
        )
