"""Reads a user's own views: a folder of pictures, masks, and one file of SMPL poses and cameras.

FOLDER/views.npz        arrays, one row a view (V views); poses and cameras as in posegen.scene
    name    (V,)        unicode, file names without suffix
    pose    (V,24,3)    axis-angle rad, SMPL order
    betas   (V,10) or (10,)
    transl  (V,3)       m; may be left out
    R       (V,3,3)     world -> camera, OpenCV axes
    t       (V,3)       m
    focal   (V,)        px of the pictures as stored
    centre  (V,2)       px; may be left out: the middle of the picture
    light   (V,5)       direction (3), ambient, diffuse; may be left out: even light
FOLDER/images/NAME.png  (or .jpg), square crops or whole pictures, all of one size
FOLDER/masks/NAME.png   white where the person is
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posegen.errors import DataError
from posegen.renderer.fit.view_stack import ViewStack, spread
from posegen.renderer.fit.views import FitViews
from posegen.scene import Light

SHAPES = {"pose": (24, 3), "R": (3, 3), "t": (3,), "focal": ()}
SUFFIXES = (".png", ".jpg", ".jpeg")
HELP = "docs/formats-renderer.md"


def read_views(
    folder: Path, size_px: int, most: int, progress: Callable[[str, int, int], None] | None = None
) -> FitViews:
    """The folder's views, at most `most` of them, their pictures brought to `size_px` along the longer side.

    Raises DataError with the file and what is wrong with it.
    """
    arrays = _arrays(folder / "views.npz")
    rows = spread(len(arrays["name"]), most)
    stack = ViewStack(size_px)
    for row in rows:
        if progress is not None:
            progress("reading views", len(stack), len(rows))
        name = str(arrays["name"][row])
        image, mask = _picture(folder / "images", name, "RGB"), _picture(folder / "masks", name, "L")
        stack.add(image, mask, folder / "masks" / name)
    betas, centre, transl = _tensor(arrays["betas"]), arrays.get("centre"), arrays.get("transl")
    light = arrays.get("light")
    return stack.views(
        _tensor(arrays["pose"])[rows],
        betas[rows] if betas.dim() == 2 else betas.expand(len(rows), -1).clone(),
        torch.zeros(len(rows), 3) if transl is None else _tensor(transl)[rows],
        (
            _tensor(arrays["R"])[rows], _tensor(arrays["t"])[rows], _tensor(arrays["focal"])[rows],
            None if centre is None else _tensor(centre)[rows],
        ),
        None if light is None else _light(_tensor(light)[rows]),
    )  # fmt: skip


def _tensor(array: NDArray) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.float32))


def _light(rows: Tensor) -> Light:
    return Light(rows[:, :3], rows[:, 3], rows[:, 4])


def _arrays(path: Path) -> dict[str, NDArray]:
    if not path.is_file():
        raise DataError("there is no views.npz here", where=path, next_command=f"see {HELP}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"views.npz cannot be read: {error}", where=path) from error
    missing = [name for name in ("name", "betas", *SHAPES) if name not in arrays]
    if missing:
        raise DataError(f"views.npz lacks {', '.join(missing)}", where=path, next_command=f"see {HELP}")
    count = len(arrays["name"])
    if count == 0:
        raise DataError("views.npz holds no view", where=path)
    shapes: dict[str, tuple[int, ...]] = {name: (count, *shape) for name, shape in SHAPES.items()}
    for name, size in {"transl": 3, "centre": 2, "light": 5}.items():
        if name in arrays:
            shapes[name] = (count, size)
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise DataError(f"{name} has shape {arrays[name].shape}, expected {shape}", where=path)
    if arrays["betas"].shape not in ((10,), (count, 10)):
        raise DataError(f"betas has shape {arrays['betas'].shape}, expected {(count, 10)} or (10,)", where=path)
    return arrays


def _picture(folder: Path, name: str, mode: str) -> Tensor:
    """(C,H,W) in [0,1]."""
    from PIL import Image, UnidentifiedImageError

    for suffix in SUFFIXES:
        path = folder / f"{name}{suffix}"
        if path.is_file():
            try:
                pixels = np.asarray(Image.open(path).convert(mode), np.float32) / 255
            except (OSError, UnidentifiedImageError) as error:
                raise DataError(f"the picture cannot be read: {error}", where=path) from error
            return torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)
    raise DataError(f"no picture for view {name!r}", where=folder / f"{name}.png", choices=SUFFIXES)
