"""Reads a user's own views: a folder of pictures, masks, and one file of SMPL poses and cameras.

FOLDER/views.npz        arrays, one row a view (V views); poses and cameras as in posegen.scene
    name    (V,)        unicode or bytes, file names with or without suffix
    pose    (V,24,3)    axis-angle rad, SMPL order
    betas   (V,10) or (10,)
    transl  (V,3)       m; may be left out
    R       (V,3,3)     world -> camera, OpenCV axes
    t       (V,3)       m
    focal   (V,)        px of the pictures as stored
    centre  (V,2)       px; may be left out: the middle of the picture
    light   (V,5)       direction (3), ambient, diffuse; may be left out: even light
FOLDER/images/NAME.png  (or .jpg), square crops or whole pictures, all of one size
FOLDER/masks/NAME.png   the person in white, as alpha, as 1 or as a label's colour
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posegen.errors import DataError
from posegen.files.arrays import read_npz
from posegen.files.pictures import read_colours, read_mask
from posegen.files.values import texts
from posegen.renderer.fit.view_stack import ViewStack, check_sizes, spread
from posegen.renderer.fit.views import FitViews
from posegen.scene import Light

SHAPES = {"pose": (24, 3), "R": (3, 3), "t": (3,), "focal": ()}
OPTIONAL = {"transl": 3, "centre": 2, "light": 5}
SUFFIXES = (".png", ".jpg", ".jpeg")
HELP = "docs/reference/renderer-formats.md"
PERSON_M = 1.7
LEAST_PX, MOST_TIMES = 8, 50  # a person's height in the picture: at least 8 px, at most 50 times the picture's
TURN_TOLERANCE = 0.02  # of R' R from the identity


def read_views(
    folder: Path, size_px: int, most: int, progress: Callable[[str, int, int], None] | None = None
) -> FitViews:
    """The folder's views, at most `most` of them, their pictures brought to `size_px` along the longer side.

    Raises DataError with the file and what is wrong with it: poses and cameras before any picture is read.
    """
    path = folder / "views.npz"
    arrays = _arrays(path)
    names = [_stem(name) for name in texts(arrays["name"], "name", path)]
    _check_cameras(arrays, names, path)
    rows = spread(len(names), most)
    stack = ViewStack(size_px, path)
    for row in rows:
        if progress is not None:
            progress("reading views", len(stack), len(rows))
        image = torch.from_numpy(read_colours(_file(folder / "images", names[row])).astype(np.float32) / 255)
        mask_file = _file(folder / "masks", names[row])
        stack.add(image.permute(2, 0, 1), torch.from_numpy(read_mask(mask_file))[None], mask_file)
    _check_sizes(arrays, names, max(stack.stored), path)
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


def _stem(name: str) -> str:
    """The name without the suffix of a picture."""
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in SUFFIXES else name


def _arrays(path: Path) -> dict[str, NDArray]:
    if not path.is_file():
        raise DataError("there is no views.npz here", where=path, next_command=f"see {HELP}")
    needed = ("name", "betas", *SHAPES)
    arrays = read_npz(path, needed, tuple(OPTIONAL), text=("name",), what="views.npz", next_command=f"see {HELP}")
    count = arrays["name"].size
    if count == 0:
        raise DataError("views.npz holds no view", where=path)
    shapes: dict[str, tuple[int, ...]] = {"name": (count,)} | {n: (count, *shape) for n, shape in SHAPES.items()}
    shapes |= {name: (count, size) for name, size in OPTIONAL.items() if name in arrays}
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise DataError(f"{name} has shape {arrays[name].shape}, expected {shape}", where=path)
    if arrays["betas"].shape not in ((10,), (count, 10)):
        raise DataError(f"betas has shape {arrays['betas'].shape}, expected {(count, 10)} or (10,)", where=path)
    check_sizes(arrays, path)
    return arrays


def _check_cameras(arrays: dict[str, NDArray], names: list[str], path: Path) -> None:
    """DataError unless every R turns, every focal length is positive and every person is in front of the camera."""
    R, focal = (arrays[name].astype(np.float64) for name in ("R", "focal"))
    off = np.abs(R.transpose(0, 2, 1) @ R - np.eye(3)).max((1, 2))
    if (off > TURN_TOLERANCE).any():
        raise DataError(f"R of view {names[int(off.argmax())]!r} is no rotation", where=path)
    if (focal <= 0).any():
        raise DataError(f"the focal length of view {names[int(focal.argmin())]!r} is not positive", where=path)
    depth_m = _depth_m(arrays)
    if (depth_m <= 0).any():
        raise DataError(
            f"the person of view {names[int(depth_m.argmin())]!r} is behind the camera (at {depth_m.min():.3g} m): "
            "R and t lead from the world to the camera, x right, y down, z forward",
            where=path, next_command=f"see {HELP}",
        )  # fmt: skip


def _check_sizes(arrays: dict[str, NDArray], names: list[str], side_px: int, path: Path) -> None:
    """DataError where a person would be a speck or far larger than the picture: t is then in another unit."""
    height_px = PERSON_M * arrays["focal"].astype(np.float64) / _depth_m(arrays)
    for row in (int(height_px.argmin()), int(height_px.argmax())):
        if height_px[row] < LEAST_PX or height_px[row] > MOST_TIMES * side_px:
            raise DataError(
                f"the person of view {names[row]!r} would be {height_px[row]:.3g} px tall in one of {side_px} px: "
                f"t and transl must be in metres (the person is {_depth_m(arrays)[row]:.4g} away), focal in px",
                where=path, next_command=f"see {HELP}",
            )  # fmt: skip


def _depth_m(arrays: dict[str, NDArray]) -> NDArray:
    """(V,) how far in front of its camera each person's root is."""
    R, t = arrays["R"].astype(np.float64), arrays["t"].astype(np.float64)
    place = arrays["transl"].astype(np.float64) if "transl" in arrays else np.zeros_like(t)
    return (R[:, 2] * place).sum(1) + t[:, 2]


def _file(folder: Path, name: str) -> Path:
    """The picture or mask of a view. Names stay within the folder."""
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise DataError(f"the view's name {name!r} leaves the folder", where=folder)
    for suffix in SUFFIXES:
        if (path := folder / f"{name}{suffix}").is_file():
            return path
    raise DataError(f"no picture for view {name!r}", where=folder / f"{name}.png", choices=SUFFIXES)
