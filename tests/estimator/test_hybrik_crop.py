"""HybrIK's crop out of a whole picture. Golden values: the original's transform and OpenCV 4.10's warpAffine."""

import hashlib

import numpy as np
import pytest
import torch

from posegen.errors import DataError
from posegen.estimator.hybrik import skeleton_m
from posegen.estimator.hybrik_crop import hybrik_crop, place_of, square_box

BOX = (-10.3, 20.7, 59.2, 101.9)  # reaches out of the picture


def picture() -> np.ndarray:
    return (np.arange(120 * 90 * 3).reshape(120, 90, 3) * 7919 % 251).astype(np.uint8)


def test_the_crop_is_the_originals_bit_for_bit():
    crop, square = hybrik_crop(picture(), BOX)
    assert hashlib.sha256(crop.tobytes()).hexdigest().startswith("c606adbec70579fcc49b121e090d83b6")
    assert crop[100, 200].tolist() == [157, 91, 182] and crop[128, 128].tolist() == [154, 86, 145]
    assert square == pytest.approx([-26.3, 10.55, 75.2, 112.05], abs=1e-4)
    assert not crop[:, :60].any()  # black outside: the picture begins at 26.3 px of 101.5


def test_the_square_is_the_longer_side_and_a_quarter():
    centre, side = square_box((10, 20, 50, 100))
    assert centre.tolist() == [30, 60] and side == 100
    assert square_box((0, 0, 80, 40))[1] == 100
    for bad in ((10, 20, 10, 100), (0, 0, float("nan"), 1)):
        with pytest.raises(DataError, match="not usable"):
            square_box(bad)
    with pytest.raises(DataError, match="of uint8"):
        hybrik_crop(picture().astype(np.float32), BOX)


def test_a_crop_of_its_own_size_is_the_picture():
    whole = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    crop, square = hybrik_crop(whole, (70, 30, 326, 286), factor=1.0)
    assert np.array_equal(crop, whole[30:286, 70:326]) and square.tolist() == [70, 30, 326, 286]


def test_the_place_of_a_crop_gives_the_pictures_perspective():
    assert place_of(np.array([300.0, 40, 500, 240]), (640, 480)) == pytest.approx((0.4, -0.5))
    uvd = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, 0.5]]])  # one behind the other as the crop sees them
    camera = torch.tensor([[0.8, 0.1, 0.2]])
    assert skeleton_m(uvd, camera)[0, 1].tolist() == pytest.approx([0, 0, 1.1])
    # in the picture they lie on a ray off its centre: 0.4 sides to the right, at 256 px for 1000 px of focal length
    seen = skeleton_m(uvd, camera, torch.tensor([[0.4, -0.5]]))[0, 1]
    assert seen.tolist() == pytest.approx([0.4 * 0.256 * 1.1, -0.5 * 0.256 * 1.1, 1.1], abs=1e-6)
