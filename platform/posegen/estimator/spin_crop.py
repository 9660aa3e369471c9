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
    crop = np.zeros((bottom - top, right - left, 3), np.float64 if stretch else np.uint8)
    u0, u1, v0, v1 = max(0, left), min(width, right), max(0, top), min(height, bottom)
    if outside == "edge":
        rows, columns = np.arange(top, bottom).clip(0, height - 1), np.arange(left, right).clip(0, width - 1)
        crop[:] = picture[rows[:, None], columns]
    elif u1 > u0 and v1 > v0:
        crop[v0 - top : v1 - top, u0 - left : u1 - left] = picture[v0:v1, u0:u1]
    if stretch:
        low, high = crop.min(), crop.max()
        crop = (crop - low) * (255.0 / (high - low if high > low else 1.0))
        crop = (crop.clip(0, 255) + 0.5).astype(np.uint8)
    image = Image.fromarray(crop)
    return np.asarray(image.resize((size_px, size_px), Image.Resampling.BILINEAR))
