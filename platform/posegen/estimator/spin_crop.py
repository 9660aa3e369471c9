"""SPIN's crop of a person out of a whole picture, to the pixel (SPIN utils/imutils.py: get_transform, transform, crop).

The box's side is 200 * scale around `centre`; its corners are cut to integers through a 1-based transform; outside the
picture is black; the crop is stretched to the full contrast (scipy.misc.imresize does so to the floats that SPIN gives
it) and resized by Pillow's bilinear filter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from posegen.errors import DataError

BOX_UNIT_PX = 200  # `scale` is the side in units of this
LARGEST_BOX = 16  # sides of the picture; a box beyond that shows nobody and is a fault of the annotations


def box_corners(centre_px: tuple[float, float], scale: float, size_px: int = 224) -> tuple[NDArray, NDArray]:
    """Upper left (inclusive) and lower right (exclusive) corner in the picture, integers, u and v.

    The inverse is computed with a matrix as the original does: truncation follows its rounding errors.
    """
    side = BOX_UNIT_PX * float(scale)
    to_crop = np.array(
        [
            [size_px / side, 0, size_px * (-float(centre_px[0]) / side + 0.5)],
            [0, size_px / side, size_px * (-float(centre_px[1]) / side + 0.5)],
            [0, 0, 1],
        ]
    )
    to_picture = np.linalg.inv(to_crop)
    corners = [(to_picture @ np.array([p, p, 1.0]))[:2].astype(int) for p in (0, size_px)]
    return corners[0], corners[1]


def spin_crop(
    picture: NDArray,
    centre_px: tuple[float, float],
    scale: float,
    size_px: int = 224,
    stretch: bool = True,
    outside: str = "black",
) -> NDArray:
    """The crop that SPIN's network sees.

    Args:
        picture: (H,W,3) uint8 RGB.
        centre_px: u, v of the box's centre, as in SPIN's npz files.
        scale: side of the box / 200 px.
        stretch: stretch the contrast as the original does; False keeps the picture's own values.
        outside: "black" as the original, or "edge": the nearest pixel of the picture goes on.

    Returns:
        (size,size,3) uint8.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise DataError(f"expected a picture (H,W,3) of uint8, got {picture.shape} {picture.dtype}")
    if not (np.isfinite(scale) and scale > 0 and np.isfinite(centre_px).all()):
        raise DataError(f"the person's box is not usable: centre {tuple(centre_px)}, scale {scale}")
    (left, top), (right, bottom) = box_corners(centre_px, scale, size_px)
    if right <= left or bottom <= top:
        raise DataError(f"the person's box is empty: centre {tuple(centre_px)}, scale {scale} (unit 200 px)")
    height, width = picture.shape[:2]
    if max(right - left, bottom - top) > LARGEST_BOX * max(height, width):
        raise DataError(
            f"the person's box has sides of {right - left} px in a picture of {width}x{height}: scale {scale} must be "
            "in units of 200 px"
        )
    # Pillow resizes along rows first, then along columns, and rounds in between: done apart, only the rows that lie in
    # the picture and the columns of the crop are ever held, however far the box reaches beyond.
    if outside == "edge":
        x, y = np.arange(left, right).clip(0, width - 1), np.arange(top, bottom).clip(0, height - 1)
        band = picture[y[0] : y[-1] + 1][:, x]
        if stretch:
            band = _stretched(float(band.min()), float(band.max()))[band]
        narrow = np.asarray(Image.fromarray(band).resize((size_px, len(band)), Image.Resampling.BILINEAR))
        columns = narrow[y - y[0]]
        return np.asarray(Image.fromarray(columns).resize((size_px, size_px), Image.Resampling.BILINEAR))
    u0, u1, v0, v1 = max(0, left), min(width, right), max(0, top), min(height, bottom)
    if u1 <= u0 or v1 <= v0:
        return np.zeros((size_px, size_px, 3), np.uint8)
    inside = picture[v0:v1, u0:u1]
    if stretch:
        whole = (u1 - u0, v1 - v0) == (right - left, bottom - top)
        low = float(inside.min()) if whole else 0.0  # black counts where the box leaves the picture
        inside = _stretched(low, float(inside.max()))[inside]
    rows = np.zeros((v1 - v0, right - left, 3), np.uint8)
    rows[:, u0 - left : u1 - left] = inside
    narrow = np.asarray(Image.fromarray(rows).resize((size_px, v1 - v0), Image.Resampling.BILINEAR))
    columns = np.zeros((bottom - top, size_px, 3), np.uint8)
    columns[v0 - top : v1 - top] = narrow
    return np.asarray(Image.fromarray(columns).resize((size_px, size_px), Image.Resampling.BILINEAR))


def _stretched(low: float, high: float) -> NDArray[np.uint8]:
    """What each of the 256 values becomes when low and high are stretched to 0 and 255."""
    values = (np.arange(256, dtype=np.float64) - low) * (255.0 / (high - low if high > low else 1.0))
    return (values.clip(0, 255) + 0.5).astype(np.uint8)
