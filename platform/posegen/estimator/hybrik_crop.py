"""HybrIK's crop of a person out of a whole picture (HybrIK utils/presets/simple_transform_3d_smpl_cam.py,
test_transform): a square around the box's centre, 1.25 times its longer side, warped to 256 px.

The warp is OpenCV's (warpAffine, bilinear, black outside, as to version 4.10): positions are rounded to a 32nd of a
pixel and weights to 15 bits, which is followed, since HybrIK's network was trained on what comes out. Equal to OpenCV
4.10 but where a position lies exactly between two 32nds, which boxes of whole pixels bring about now and then.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from posegen.errors import DataError

SIZE_PX = 256
BOX_FACTOR = 1.25
_POSITION_BITS, _FRACTION_BITS, _WEIGHT_BITS = 10, 5, 15


def square_box(box_px: tuple[float, float, float, float], factor: float = BOX_FACTOR) -> tuple[NDArray, float]:
    """Centre (2,) and side of the crop's square from a person's box (left, top, right, bottom), px."""
    left, top, right, bottom = box_px
    if not (np.isfinite(box_px).all() and right > left and bottom > top):
        raise DataError(f"the person's box is not usable: {tuple(box_px)}")
    width, height = right - left, bottom - top
    centre = np.array([left + width * 0.5, top + height * 0.5], np.float32)
    return centre, float(np.float32(max(width, height)) * np.float32(factor))


def hybrik_crop(
    picture: NDArray, box_px: tuple[float, float, float, float], factor: float = BOX_FACTOR
) -> tuple[NDArray, NDArray]:
    """The crop that HybrIK's network sees, and where it is.

    Args:
        picture: (H,W,3) uint8 RGB.
        box_px: left, top, right, bottom of the person, u and v in the picture.

    Returns:
        the crop (256,256,3) uint8, and the square (4,) left, top, right, bottom; see place_of.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise DataError(f"expected a picture (H,W,3) of uint8, got {picture.shape} {picture.dtype}")
    centre, side = square_box(box_px, factor)
    scale = side / SIZE_PX  # picture pixels for one of the crop
    crop = _warp(picture, scale, centre.astype(np.float64) - scale * (SIZE_PX / 2))
    square = np.concatenate([centre - side * 0.5, centre + side * 0.5])
    return crop, square


def place_of(square_px: NDArray, picture_px: tuple[int, int]) -> tuple[float, float]:
    """Where a square's centre lies off the picture's, in units of its side: `place` of HybrikNetwork.forward.

    Args:
        square_px: (4,) left, top, right, bottom; picture_px: width and height.
    """
    side = square_px[2:] - square_px[:2]
    off = ((square_px[:2] + square_px[2:]) - np.asarray(picture_px)) / 2 / side
    return float(off[0]), float(off[1])


def _warp(picture: NDArray, scale: float, origin: NDArray) -> NDArray:
    """Crop pixel (u, v) is the picture at origin + scale * (u, v), bilinear in OpenCV's fixed point."""
    one, pixels = 1 << _POSITION_BITS, scale * np.arange(SIZE_PX)
    # Along a row offset and step are rounded apart, from row to row their sum is.
    along = np.rint(pixels * one) + np.rint(origin[0] * one)
    down = np.rint((pixels + origin[1]) * one)
    whole, weights = [], []
    for exact in (along, down):
        position = (exact.astype(np.int64) + (one >> (_FRACTION_BITS + 1))) >> (_POSITION_BITS - _FRACTION_BITS)
        whole.append(position >> _FRACTION_BITS)
        fraction = (position & ((1 << _FRACTION_BITS) - 1)) / (1 << _FRACTION_BITS)
        weights.append(np.stack([1 - fraction, fraction], 1))
    height, width = picture.shape[:2]
    total = np.zeros((SIZE_PX, SIZE_PX, 3), np.int64)
    for dv in (0, 1):
        for du in (0, 1):
            u, v = whole[0] + du, whole[1] + dv
            inside = ((v >= 0) & (v < height))[:, None] & ((u >= 0) & (u < width))[None]
            values = picture[v.clip(0, height - 1)[:, None], u.clip(0, width - 1)[None]].astype(np.int64)
            weight = np.outer(weights[1][:, dv], weights[0][:, du])
            weight = np.rint(weight * (1 << _WEIGHT_BITS)).astype(np.int64)
            total += values * (weight * inside)[..., None]
    return ((total + (1 << (_WEIGHT_BITS - 1))) >> _WEIGHT_BITS).clip(0, 255).astype(np.uint8)
