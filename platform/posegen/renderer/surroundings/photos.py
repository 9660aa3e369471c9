"""Photos behind people: those bundled with scikit-image and scikit-learn, or a user's folder, split into pools.

The bundled ones lie in the installed wheels, so nothing is downloaded. Photos with people in them are left out: a
second person would be a wrong label. A photo belongs to one pool only.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor

from posegen.errors import ConfigError, DataError

POOLS = ("train", "validation", "test")
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

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
}
# Photos of an even surface, fit to be laid on the ground; of these, some show nothing that could stand upright.
GROUND_PHOTOS = frozenset({"brick", "gravel", "grass", "moon", "coins"})
ONLY_GROUND_PHOTOS = frozenset({"grass", "moon"})


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
    """The files of one pool out of a user's folder: a tenth for validation, a fifth for tests, by hash of the name."""
    check_pool(pool)
    if not folder.is_dir():
        raise DataError("the folder of background photos does not exist", where=folder)
    files = [path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES]
    files.sort(key=lambda path: hashlib.sha256(path.relative_to(folder).as_posix().encode()).hexdigest())
    if len(files) < len(POOLS):
        raise DataError(
            f"{len(files)} photos found; at least {len(POOLS)} are needed, one for each pool",
            where=folder,
            choices=PHOTO_SUFFIXES,
        )
    validation = max(1, len(files) // 10)
    test = max(1, len(files) // 5)
    parts = {"validation": files[:validation], "test": files[validation : validation + test]}
    return parts.get(pool, files[validation + test :])


class PhotoShelf:
    """Decoded photos as pyramids of squares, the last `keep` used ones in memory.

    A photo is stretched to a square; `aspect` (width / height) lets a crop window undo it.
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
        self._levels[index] = self._decode(self.paths[index])
        if len(self._levels) > self.keep:
            self._levels.popitem(last=False)
        return self._levels[index]

    def _decode(self, path: Path) -> tuple[list[Tensor], float]:
        import numpy as np
        from PIL import Image

        try:
            with Image.open(path) as image:
                aspect = image.width / image.height
                square = image.convert("RGB").resize((self.size_px, self.size_px), Image.Resampling.LANCZOS)
        except OSError as error:
            raise DataError(f"a background photo cannot be read: {error}", where=path) from error
        level = torch.from_numpy(np.asarray(square, dtype=np.float32) / 255).permute(2, 0, 1).contiguous()
        levels = [level]
        while level.shape[-1] > 16:
            level = torch.nn.functional.avg_pool2d(level[None], 2)[0]
            levels.append(level)
        return levels, aspect
