"""Lights, blur, noise, occluders: drawn by seed, applied in order, recorded."""

from __future__ import annotations

import math

import pytest
import torch

from posegen.errors import ConfigError
from posegen.renderer.surroundings.looks import (
    CLEAN,
    PHOTO,
    Degrade,
    LookConfig,
    gaussian_blur,
    hashed_light,
    random_light,
    random_look,
)


def test_lights_come_from_above_and_never_overexpose() -> None:
    light = random_light(500, torch.Generator().manual_seed(0))
    assert torch.allclose(light.direction.norm(dim=-1), torch.ones(500), atol=1e-5)
    assert float(light.direction[:, 1].min()) >= math.sin(math.radians(10)) - 1e-5
    assert torch.allclose(light.ambient + light.diffuse, torch.ones(500))
    assert float(light.ambient.min()) >= 0.35 and float(light.ambient.max()) <= 0.75
    again = random_light(500, torch.Generator().manual_seed(0))
    assert torch.equal(light.direction, again.direction)


def test_hashed_lights_belong_to_their_ids() -> None:
    ids = torch.tensor([9, 2, 5])
    together, alone = hashed_light(ids, 1), hashed_light(ids[1:2], 1)
    assert torch.equal(together.direction[1:2], alone.direction)


def test_clean_look_changes_nothing() -> None:
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Degrade(CLEAN)(images, torch.arange(3)), images)


def test_blur_of_a_point_is_a_gaussian_of_its_sigma() -> None:
    images = torch.zeros(2, 1, 33, 33)
    images[:, :, 16, 16] = 1
    sigma = torch.tensor([1.5, 0.0])
    blurred = gaussian_blur(images, sigma)
    assert torch.allclose(blurred[1], images[1], atol=1e-6), "sigma 0 leaves the picture alone"
    assert float(blurred[0].sum()) == pytest.approx(1, abs=1e-4)
    x = torch.arange(33) - 16.0
    variance = float((blurred[0, 0].sum(0) * x * x).sum())
    assert variance == pytest.approx(1.5**2, rel=0.02)


def test_noise_has_its_sigma_and_belongs_to_the_seed() -> None:
    degrade = Degrade(LookConfig(noise_sigma=(0.05, 0.05)))
    grey = torch.full((2, 3, 64, 64), 0.5)
    seeds = torch.tensor([4, 8])
    noisy = degrade(grey, seeds)
    assert float((noisy - grey).std()) == pytest.approx(0.05, rel=0.03)
    assert torch.equal(degrade(grey[:1], seeds[:1])[0], noisy[0])
    assert not torch.equal(noisy[0], noisy[1])
    assert not torch.equal(Degrade(LookConfig(noise_sigma=(0.05, 0.05)), "test")(grey, seeds), noisy)


def test_gain_and_gamma_by_hand() -> None:
    images = torch.full((1, 3, 4, 4), 0.25)
    bright = Degrade(LookConfig(gain=(1.2, 1.2), gamma=(0.5, 0.5)))(images, torch.tensor([0]))
    assert torch.allclose(bright, torch.full_like(images, 0.5 * 1.2), atol=1e-5)


def test_occluders_cover_what_their_labels_say() -> None:
    degrade = Degrade(LookConfig(occluder_share=1.0, occluder_size=(0.3, 0.3)))
    look = degrade.draw(torch.arange(64))
    alpha = degrade.occluder_alpha(look, 96, 96)
    assert alpha.min() >= 0 and alpha.max() <= 1
    inside = (look.occluder[:, 2:4] > 0.2).all(1) & (look.occluder[:, 2:4] < 0.8).all(1)
    rectangle, ellipse = inside & (look.occluder[:, 1] == 0), inside & (look.occluder[:, 1] == 1)
    area = alpha.mean((1, 2, 3))
    assert torch.allclose(area[rectangle], torch.tensor(0.09), rtol=0.03)
    assert torch.allclose(area[ellipse], torch.tensor(0.09 * math.pi / 4), rtol=0.05)
    assert int(rectangle.sum()) > 5 and int(ellipse.sum()) > 5


def test_occluders_come_as_often_as_told() -> None:
    look = Degrade(LookConfig(occluder_share=0.4)).draw(torch.arange(5000))
    assert float(look.occluder[:, 0].mean()) == pytest.approx(0.4, abs=0.02)


def test_gradient_passes_through_the_look() -> None:
    images = torch.full((2, 3, 12, 12), 0.4, requires_grad=True)
    Degrade(PHOTO)(images, torch.arange(2)).sum().backward()
    assert images.grad is not None and float(images.grad.min()) > 0


def test_random_looks_lie_in_their_ranges() -> None:
    look = random_look(200, torch.Generator().manual_seed(3))
    assert float(look.blur_sigma_px.min()) >= 0 and float(look.blur_sigma_px.max()) <= 0.7
    assert float(look.noise_sigma.min()) >= 0 and float(look.noise_sigma.max()) <= 0.03
    assert float(look.gain.min()) >= 0.8 * 0.94 and float(look.gain.max()) <= 1.15 * 1.06
    assert torch.equal(look.gamma, random_look(200, torch.Generator().manual_seed(3)).gamma)


def test_wrong_ranges_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"look\.gain"):
        LookConfig(gain=(1.2, 0.8))
    with pytest.raises(ConfigError, match="occluder_share"):
        LookConfig(occluder_share=1.5)
