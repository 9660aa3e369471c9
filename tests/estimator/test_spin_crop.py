"""SPIN's crop against corners worked by hand and known pixels."""

from __future__ import annotations

import numpy as np
import pytest

from posegen.errors import DataError
from posegen.estimator.spin_crop import box_corners, spin_crop


@pytest.mark.parametrize(
    ("centre", "scale", "left_top", "right_bottom"),
    [
        ((112.0, 112.0), 1.12, (0, 0), (224, 224)),
        ((150.0, 100.0), 1.0, (50, 0), (250, 200)),
        ((10.4, 20.0), 0.5, (-39, -30), (60, 70)),  # -39.6 and 60.4: cut towards zero
    ],
)
def test_corners(centre, scale, left_top, right_bottom):
    first, last = box_corners(centre, scale)
    assert np.abs(first - left_top).max() <= 1  # an exact integer may be cut down by a rounding error, as in SPIN
    assert np.abs(last - right_bottom).max() <= 1
    assert first[0] == int(np.linalg.inv(_matrix(centre, scale))[0, 2])


def _matrix(centre, scale, size=224):
    h = 200 * scale
    return np.array(
        [[size / h, 0, size * (0.5 - centre[0] / h)], [0, size / h, size * (0.5 - centre[1] / h)], [0, 0, 1]]
    )


def test_unit_scale_is_the_picture_itself():
    picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3)).astype(np.uint8)
    picture[0, 0], picture[0, 1] = 0, 255  # full contrast: nothing to stretch
    left_top, _ = box_corners((112, 112), 1.12)
    assert (left_top == 0).all()
    assert np.array_equal(spin_crop(picture, (112, 112), 1.12), picture)


def test_outside_is_black_and_contrast_is_stretched():
    picture = np.full((100, 100, 3), 100, np.uint8)
    picture[50:] = 200
    crop = spin_crop(picture, (0.0, 50.0), 0.5, size_px=100)
    assert (crop[:, :49] == 0).all()  # left of the picture
    assert crop[10, 80].tolist() == [127] * 3  # 100 of 0..200
    assert crop[90, 80].tolist() == [255] * 3
    plain = spin_crop(picture, (0.0, 50.0), 0.5, size_px=100, stretch=False)
    assert plain[90, 80].tolist() == [200] * 3


def test_a_box_that_misses_the_picture_is_black():
    assert spin_crop(np.full((20, 20, 3), 9, np.uint8), (500.0, 10.0), 0.2).max() == 0


@pytest.mark.parametrize(
    ("picture", "centre", "scale", "text"),
    [
        (np.zeros((5, 5), np.uint8), (2, 2), 1.0, "picture"),
        (np.zeros((5, 5, 3), np.float32), (2, 2), 1.0, "uint8"),
        (np.zeros((5, 5, 3), np.uint8), (2, 2), 0.0, "not usable"),
        (np.zeros((5, 5, 3), np.uint8), (float("nan"), 2), 1.0, "not usable"),
        (np.zeros((5, 5, 3), np.uint8), (2.5, 2.5), 0.002, "empty"),
    ],
)
def test_bad_boxes_are_named(picture, centre, scale, text):
    with pytest.raises(DataError, match=text):
        spin_crop(picture, centre, scale)
