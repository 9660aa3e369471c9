"""Resizing and normalising against hand-worked values."""

from __future__ import annotations

import pytest
import torch

from posegen.errors import DataError
from posegen.estimator.preprocess import IMAGENET_MEAN, IMAGENET_STD, check_images, normalise, resize


def test_normalise_is_per_channel():
    image = torch.tensor(IMAGENET_MEAN)[None, :, None, None] + torch.tensor(IMAGENET_STD)[None, :, None, None] * 2
    assert torch.allclose(normalise(image, IMAGENET_MEAN, IMAGENET_STD), torch.full((1, 3, 1, 1), 2.0))


def test_resize_keeps_linear_ramps_and_means():
    ramp = (torch.arange(8) + 0.5).expand(1, 3, 8, 8) / 8
    up = resize(ramp, 16)
    assert torch.allclose(up[0, 0, 0, 1:-1], (torch.arange(1, 15) + 0.5) / 16, atol=1e-6)
    noise = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(resize(noise, 8).mean((2, 3)), noise.mean((2, 3)), atol=2e-2)
    assert resize(noise, 32) is noise


def test_resize_gradient_matches_finite_differences():
    image = torch.rand(1, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: resize(x, 4), image)
    assert torch.autograd.gradcheck(lambda x: resize(x, 9), image)


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (torch.zeros(3, 8, 8), r"\(B,3,S,S\)"),
        (torch.zeros(1, 1, 8, 8), r"\(B,3,S,S\)"),
        (torch.zeros(1, 3, 8, 6), "square"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "floats"),
    ],
)
def test_wrong_images_are_named(images, text):
    with pytest.raises(DataError, match=text):
        check_images(images)
