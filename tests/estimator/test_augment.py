"""Augmentation: labels follow the crop, blur keeps the mean, the seed decides."""

from __future__ import annotations

import torch

from posegen.estimator.augment import AugmentConfig, augment, blur, crop_jitter


def spot(u: int, v: int, size: int = 48) -> torch.Tensor:
    image = torch.zeros(1, 3, size, size)
    image[..., v - 1 : v + 2, u - 1 : u + 2] = 1
    return image


def centre_of(image: torch.Tensor) -> torch.Tensor:
    """Centre of mass in crop units -1..1."""
    size = image.shape[-1]
    position = (torch.arange(size) + 0.5) / size * 2 - 1
    mass = image[0, 0]
    return torch.stack([(mass.sum(0) * position).sum(), (mass.sum(1) * position).sum()]) / mass.sum()


def test_points_move_as_documented():
    image = spot(30, 15)
    before = centre_of(image)
    zoom, shift = torch.tensor([1.2]), torch.tensor([[0.05, -0.03]])
    after = centre_of(crop_jitter(image, zoom, shift))
    assert torch.allclose(after, (before - 2 * shift[0]) * zoom, atol=5e-3)


def test_identity_jitter_keeps_the_image():
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(crop_jitter(image, torch.ones(2), torch.zeros(2, 2)), image, atol=1e-5)


def test_blur_has_its_standard_deviation_and_zero_is_none():
    image = torch.zeros(2, 1, 31, 31)
    image[:, :, 15, 15] = 1
    out = blur(image, torch.tensor([0.0, 1.0]), radius=5)
    assert torch.allclose(out[0], image[0], atol=1e-6)
    offset = torch.arange(31) - 15.0
    assert torch.isclose((out[1, 0].sum(0) * offset**2).sum(), torch.tensor(1.0), atol=1e-2)
    assert torch.isclose(out[1].sum(), torch.tensor(1.0), atol=1e-5)


def test_seeded_and_in_range():
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    a, b = (augment(images, AugmentConfig(), torch.Generator().manual_seed(2)) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert a[0].min() >= 0
    assert a[0].max() <= 1
    assert (a[1] - 1).abs().max() <= 0.1
    assert a[2].abs().max() <= 0.05
    other = augment(images, AugmentConfig(), torch.Generator().manual_seed(3))[0]
    assert not torch.equal(a[0], other)
