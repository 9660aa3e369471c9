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
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from posegen.errors import DataError
from posegen.renderer.fit_views import FitViews
from posegen.scene import Camera, Light, Scene

SHAPES = {"pose": (24, 3), "R": (3, 3), "t": (3,), "focal": ()}
SUFFIXES = (".png", ".jpg", ".jpeg")
HELP = "docs/formats-renderer.md"


def read_views(folder: Path, size_px: int, progress: Callable[[str, int, int], None] | None = None) -> FitViews:
    """The folder's views, their pictures brought to `size_px` along the longer side by area averaging.

    Raises DataError with the file and what is wrong with it.
    """
    arrays = _arrays(folder / "views.npz")
    names = [str(name) for name in arrays["name"]]
    rgb, alpha, size = [], [], None
    for i, name in enumerate(names):
        if progress is not None:
            progress("reading views", i, len(names))
        image = _picture(folder / "images", name, "RGB")
        mask = _picture(folder / "masks", name, "L")
        if mask.shape[1:] != image.shape[1:]:
            raise DataError(f"mask and image differ in size: {tuple(mask.shape[1:])}, {tuple(image.shape[1:])}",
                            where=folder / "masks" / name)  # fmt: skip
        size = size or image.shape[1:]
        if image.shape[1:] != size:
            raise DataError(f"the pictures differ in size: {tuple(image.shape[1:])}, {tuple(size)}", where=name)
        scale = size_px / max(size)
        to = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        small = F.interpolate(torch.cat([image * mask, mask])[None], to, mode="area")[0]
        rgb.append(small[:3])
        alpha.append(small[3:])
    assert size is not None
    count, height, width = len(names), rgb[0].shape[1], rgb[0].shape[2]
    ratio = torch.tensor([width / size[1], height / size[0]])
    centre = arrays.get("centre")
    middle = torch.tensor([size[1] / 2, size[0] / 2]).expand(count, 2)
    camera = Camera(
        _tensor(arrays["R"]), _tensor(arrays["t"]), _tensor(arrays["focal"]) * ratio[0],
        (middle if centre is None else _tensor(centre)) * ratio, height, width,
    )  # fmt: skip
    betas = _tensor(arrays["betas"])
    transl = arrays.get("transl")
    scene = Scene(
        _tensor(arrays["pose"]), betas if betas.dim() == 2 else betas.expand(count, -1).clone(),
        torch.zeros(count, 3) if transl is None else _tensor(transl), camera,
        torch.zeros(count, dtype=torch.int64), _light(arrays.get("light"), count), torch.full((count,), -1),
    )  # fmt: skip
    return FitViews(scene, torch.stack(rgb), torch.stack(alpha))


def _tensor(array: NDArray) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.float32))


def _light(array: NDArray | None, count: int) -> Light:
    if array is None:  # what is seen is then the colour itself
        return Light(torch.tensor([0.0, 1.0, 0.0]).expand(count, 3).clone(), torch.ones(count), torch.zeros(count))
    light = _tensor(array)
    return Light(light[:, :3], light[:, 3], light[:, 4])


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
