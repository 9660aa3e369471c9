"""Photos behind people: those bundled with scikit-image and scikit-learn, or a user's folder, split into pools.

The bundled ones lie in the installed wheels, so nothing is downloaded. Photos with people in them are left out: a
second person would be a wrong label. A photo belongs to one pool only.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posegen.errors import ConfigError, DataError
from posegen.files.listing import visible
from posegen.files.pictures import problem_of, read_square

logger = logging.getLogger(__name__)

POOLS = ("train", "validation", "test", "target")
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_NAMED = 5  # unusable photos that a warning names
_TRIES = 20  # damaged photos in a row after which something else is wrong

# package, file; motorcycle_right is the same scene as motorcycle_left, so only one of the two is used.
_BUNDLED: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (
        ("skimage", "data/motorcycle_left.png"),
        ("skimage", "data/coffee.png"),
        ("skimage", "data/chelsea.png"),
        ("skimage", "data/brick.png"),
        ("skimage", "data/gravel.png"),
        ("skimage", "data/ihc.png"),
        ("skimage", "data/text.png"),
    ),
    "validation": (
        ("sklearn", "datasets/images/flower.jpg"),
        ("skimage", "data/coins.png"),
    ),
    "test": (
        ("sklearn", "datasets/images/china.jpg"),
        ("skimage", "data/rocket.jpg"),
        ("skimage", "data/grass.png"),
        ("skimage", "data/moon.png"),
    ),
    "target": (
        ("skimage", "data/clock_motion.png"),
        ("skimage", "data/hubble_deep_field.jpg"),
        ("skimage", "data/page.png"),
        ("skimage", "data/microaneurysms.png"),
    ),
}
# Photos of an even surface, fit to be laid on the ground; of these, some show nothing that could stand upright.
GROUND_PHOTOS = frozenset({"brick", "gravel", "grass", "moon", "coins", "microaneurysms"})
ONLY_GROUND_PHOTOS = frozenset({"grass", "moon", "microaneurysms"})


def check_pool(pool: str) -> str:
    if pool not in POOLS:
        raise ConfigError(f"unknown background pool {pool!r}", choices=POOLS)
    return pool


def bundled_photos(pool: str) -> list[Path]:
    """The files of one pool. The pools are disjoint lists."""
    paths = []
    for package, file in _BUNDLED[check_pool(pool)]:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise DataError(f"{package} is not installed, its photos are missing", next_command="make setup")
        paths.append(Path(next(iter(spec.submodule_search_locations))) / file)
    return paths


def folder_photos(folder: Path, pool: str) -> list[Path]:
    """The files of one pool out of a user's folder, by hash of their names.

    A tenth is for validation, a fifth for tests, a tenth for their target parts, the rest for training. Photos that
    cannot be used (by their heads and ends: see `problem_of`) are left out before the folder is split, with a warning
    that counts and names them: every worker sees the same rest, so that a seed means the same photo on each.
    """
    check_pool(pool)
    if not folder.is_dir():
        raise DataError("the folder of background photos does not exist", where=folder)
    files = _usable([p for p in visible(folder.rglob("*"), folder) if p.suffix.lower() in PHOTO_SUFFIXES], folder)
    files.sort(key=lambda path: hashlib.sha256(path.relative_to(folder).as_posix().encode()).hexdigest())
    if len(files) < len(POOLS):
        raise DataError(
            f"{len(files)} photos found; at least {len(POOLS)} are needed, one for each pool",
            where=folder,
            choices=PHOTO_SUFFIXES,
        )
    validation = max(1, len(files) // 10)
    test = max(1, len(files) // 5)
    ends = validation, validation + test, 2 * validation + test
    parts = {"validation": files[: ends[0]], "test": files[ends[0] : ends[1]], "target": files[ends[1] : ends[2]]}
    return parts.get(pool, files[ends[2] :])


def _usable(files: list[Path], folder: Path) -> list[Path]:
    """The photos that can be used, and a warning about the others."""
    refused = {}
    for path in files:
        status = path.stat()
        if (problem := _problem(path, status.st_size, status.st_mtime_ns)) is not None:
            refused[path] = problem
    if refused:
        named = sorted(refused)
        told = "".join(f"\n  {path.relative_to(folder)}: {refused[path]}" for path in named[:_NAMED])
        more = f"\n  and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        _warn(f"{len(named)} of {len(files)} photos below {folder} cannot be used and are left out:{told}{more}")
    return [path for path in files if path not in refused]


@functools.lru_cache(maxsize=1 << 17)
def _problem(path: Path, size: int, mtime_ns: int) -> str | None:
    """`problem_of`, asked once for each state of a file: three pools are made of one folder."""
    return problem_of(path, "the photo")


@functools.lru_cache(maxsize=256)
def _warn(text: str) -> None:
    """A warning, once in a process."""
    logger.warning(text)


class PhotoShelf:
    """Decoded photos as pyramids of squares, the last `keep` used ones in memory.

    A photo is turned as its EXIF orientation says and stretched to a square; `aspect` (width / height) lets a crop
    window undo it. One that turns out to be damaged when it is drawn gives its place to the next that is not, with a
    warning: which one that is depends on the files alone, not on the worker.
    """

    def __init__(self, paths: list[Path], size_px: int = 256, keep: int = 256) -> None:
        self.paths = paths
        self.size_px = size_px
        self.keep = keep
        self._levels: OrderedDict[int, tuple[list[Tensor], float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[list[Tensor], float]:
        """Pyramid [(3,S,S), (3,S/2,S/2), ...] float in [0,1] down to 16 px, and the aspect ratio."""
        if index in self._levels:
            self._levels.move_to_end(index)
            return self._levels[index]
        self._levels[index] = self._decode(index)
        if len(self._levels) > self.keep:
            self._levels.popitem(last=False)
        return self._levels[index]

    def _decode(self, index: int) -> tuple[list[Tensor], float]:
        square, aspect = self._square(index)
        level = torch.from_numpy(square.astype(np.float32) / 255).permute(2, 0, 1).contiguous()
        levels = [level]
        while level.shape[-1] > 16:
            level = torch.nn.functional.avg_pool2d(level[None], 2)[0]
            levels.append(level)
        return levels, aspect

    def _square(self, index: int) -> tuple[NDArray[np.uint8], float]:
        """The photo stretched to (S,S,3) and its aspect, or the next one's that can be decoded."""
        first: DataError | None = None
        for step in range(min(len(self.paths), _TRIES)):
            path = self.paths[(index + step) % len(self.paths)]
            try:
                return read_square(path, self.size_px, "the photo")
            except DataError as error:
                first = first or error
                _warn(f"{error.what}; the next photo takes its place: {path}")
        assert first is not None, "a shelf has photos"
        raise first
