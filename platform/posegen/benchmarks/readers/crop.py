"""From a picture on disk to the square crop that estimators see: SPIN's box and resampling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from posegen.errors import DataError
from posegen.estimator.spin_crop import BOX_UNIT_PX, spin_crop

BOX_FACTOR = 1.2  # the box around the annotated joints is enlarged by this (SPIN datasets/preprocess/*.py)


def box_of_points(points_px: NDArray, factor: float = BOX_FACTOR) -> tuple[tuple[float, float], float]:
    """Centre (u, v) px and scale (side / 200 px) of the square around points (N,2) px, enlarged by `factor`."""
    low, high = points_px.min(0), points_px.max(0)
    centre = (low + high) / 2
    return (float(centre[0]), float(centre[1])), float(factor * (high - low).max() / BOX_UNIT_PX)


def read_picture(path: str | Path) -> NDArray:
    """The picture (H,W,3) uint8 RGB, as stored (EXIF rotation is not applied: annotations are in stored pixels)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def crop(
    image: NDArray, centre_px: Sequence[float], scale: float, res: int = 224, stretch: bool = True
) -> NDArray[np.float32]:
    """SPIN's crop of a picture (H,W,3) uint8: (3,res,res) RGB in [0,1].

    Args:
        centre_px: u, v of the box's middle; scale: its side / 200 px.
        stretch: stretch the contrast as SPIN's resize does; False keeps the picture's values.
    """
    if len(centre_px) != 2:
        raise DataError(f"a box's centre has two numbers, not {len(centre_px)}")
    pixels = spin_crop(image, (float(centre_px[0]), float(centre_px[1])), scale, res, stretch)
    return pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
