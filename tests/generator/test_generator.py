"""Scenes out of noise: bounded, on the split's side of the cameras, and the same for a row in any batch."""

import math

import pytest
import torch

from posegen.body.cameras import viewing_angles
from posegen.body.model import load_body
from posegen.body.rotations import aa_to_matrix
from posegen.config import compose
from posegen.generator.build import build_drawer, build_generator
from posegen.scenes.split import SECTOR_DEG, SECTOR_GAP_DEG
from posegen.scenes.world import real_poses

pytestmark = pytest.mark.usefixtures("assets")


@pytest.fixture(scope="module")
def made():
    config = compose([])
    poses, body = real_poses(config), load_body(resolution="low")
    torch.manual_seed(0)
    generator = build_generator(config, poses, body)
    return generator, build_drawer(config, generator, poses, subjects=3), body


def big(generator):
    """Weights so large that every bound is reached."""
    with torch.no_grad():
        for head in (generator.pose, generator.look):
            head.weight.normal_(std=3.0, generator=torch.Generator().manual_seed(1))
    return generator


def test_a_row_does_not_depend_on_its_batch(made):
    generator, drawer, _ = made
    alone = generator(drawer.draw_rows(torch.tensor([5]), seed=3)).scene
    batch = generator(drawer.draw_rows(torch.tensor([1, 5, 9]), seed=3)).scene
    assert torch.allclose(alone.pose[0], batch.pose[1], atol=1e-5)
    assert torch.allclose(alone.camera.t[0], batch.camera.t[1], atol=1e-4)
    assert alone.background[0] == batch.background[1]


def test_shift_zero_is_the_anchor_plus_noise_whatever_the_weights(made):
    generator, drawer, _ = made
    draw = drawer.draw(6, torch.Generator().manual_seed(0))
    plain = generator(draw, shift=0.0)
    expected = draw.anchor + generator.pose_std * generator.config.pose_noise * draw.joints
    assert torch.allclose(plain.scene.pose, expected, atol=1e-6)
    assert plain.residual.abs().max() == 0


def test_cameras_stay_in_the_split_at_the_largest_shift(made):
    import copy

    generator, drawer, body = made
    wild = big(copy.deepcopy(generator))
    scene = wild(drawer.draw(256, torch.Generator().manual_seed(0))).scene
    azimuth, elevation = (torch.rad2deg(a) for a in viewing_angles(scene.camera.R))
    low, high = generator.ranges.elevation_deg
    assert elevation.min() >= low - 1e-2
    assert elevation.max() <= high + 1e-2
    sector = azimuth / SECTOR_DEG
    assert (torch.floor(sector).remainder(2) == 0).all()  # the training lattice: no test camera stands there
    inside = (sector - torch.floor(sector)) * SECTOR_DEG
    assert inside.min() >= SECTOR_GAP_DEG - 1e-2
    pose_change = (scene.pose - drawer.draw(256, torch.Generator().manual_seed(0)).anchor).abs()
    assert (pose_change[:, 0] == 0).all()  # global orient is not the generator's to change
    px = scene.camera.project(body.joints(aa_to_matrix(scene.pose), scene.betas))
    assert ((px > -10) & (px < 106)).float().mean() > 0.98


def test_gradient_reaches_every_parameter(made):
    generator, drawer, _ = made
    scene = generator(drawer.draw(4, torch.Generator().manual_seed(0))).scene
    total = scene.pose.sum() + scene.camera.R.sum() + scene.camera.t.sum() + scene.betas.sum()
    total = total + (scene.light.direction * torch.tensor([1.0, 2.0, 3.0])).sum()
    generator.zero_grad()
    total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in generator.parameters())
    assert generator.look.weight.grad.abs().sum() > 0


def test_direct_head_is_bounded_by_half_a_turn(made):
    config = compose(["generator=direct"])
    poses, body = real_poses(config), load_body(resolution="low")
    generator = big(build_generator(config, poses, body))
    drawer = build_drawer(config, generator, poses, subjects=3)
    pose = generator(drawer.draw(32, torch.Generator().manual_seed(0))).scene.pose
    assert pose[:, 1:].norm(dim=-1).max() <= math.pi + 1e-4
