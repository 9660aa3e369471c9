"""Cameras around a person: known positions, framing, crops, gradients."""

from __future__ import annotations

import math

import pytest
import torch

from posegen.body.cameras import (
    BOX_FACTOR,
    bounding_sphere,
    crop_camera,
    crop_to_person,
    frame_person,
    framing_distance,
    joints_box_px,
    look_at_camera,
    viewing_angles,
)
from posegen.body.rotations import aa_to_matrix


def angles(*values: float) -> torch.Tensor:
    return torch.tensor(values).deg2rad()


def test_a_crop_can_hold_more_than_the_joints() -> None:
    """The square around what is held fills its share of the picture, whatever the joints do."""
    g = torch.Generator().manual_seed(3)
    joints = torch.randn(4, 24, 3, generator=g) * 0.4
    held = torch.cat([joints, joints[:, :6] * 1.3], 1)
    angles = torch.linspace(-2, 2, 4)
    camera = frame_person(joints, angles, 0.3 * angles, size_px=96, factor=1.05, held_m=held)
    centre, side = joints_box_px(camera.project(held))
    assert torch.allclose(side, torch.full((4,), 96 / 1.05), atol=1e-2)
    assert torch.allclose(centre, torch.full((4, 2), 48.0), atol=1e-2)


def test_azimuth_zero_is_in_front_of_the_subject():
    camera = look_at_camera(angles(0), angles(0), torch.tensor([3.0]), size_px=100, focal_px=100.0)
    assert torch.allclose(camera.R[0], torch.diag(torch.tensor([1.0, -1.0, -1.0])), atol=1e-6)
    points = torch.tensor([[[0.0, 0.0, 0.0], [0.3, 0.0, 0.0], [0.0, 0.6, 0.0], [0.0, 0.0, 1.0]]])
    # the subject's left (+x) appears at the right, up (+y) at the top, and its nose (+z) is nearer
    assert torch.allclose(
        camera.project(points)[0], torch.tensor([[50.0, 50.0], [60.0, 50.0], [50.0, 30.0], [50.0, 50.0]])
    )
    assert camera.to_camera(points)[0, 3, 2] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "position"),
    [(90, 0, (2, 0, 0)), (180, 0, (0, 0, -2)), (0, 90, (0, 2, 0)), (0, -30, (0, -1, math.sqrt(3)))],
)
def test_camera_positions(azimuth, elevation, position):
    target = torch.tensor([[0.5, 1.0, -0.25]])
    camera = look_at_camera(angles(azimuth), angles(elevation), torch.tensor([2.0]), target_m=target)
    centre = -(camera.R.transpose(-1, -2) @ camera.t[..., None])[..., 0]
    assert torch.allclose(centre, target + torch.tensor([position], dtype=torch.float32), atol=1e-6)
    assert torch.allclose(camera.project(target[:, None])[0, 0], torch.tensor([48.0, 48.0]), atol=1e-4)
    assert torch.linalg.det(camera.R)[0] == pytest.approx(1.0, abs=1e-6)


def test_roll_turns_the_picture_clockwise():
    up = torch.tensor([[[0.0, 0.5, 0.0]]])
    camera = look_at_camera(angles(0), angles(0), torch.tensor([2.0]), angles(90), size_px=100, focal_px=100.0)
    assert torch.allclose(camera.project(up)[0, 0], torch.tensor([75.0, 50.0]), atol=1e-4)  # up points to the right


def test_framing_distance_makes_the_sphere_fill_its_share():
    joints = torch.tensor([[[0.0, -0.8, 0.0], [0.0, 0.8, 0.0], [0.3, 0.0, 0.1]]])
    distance = framing_distance(joints, 120.0, 96, share=0.75)
    radius = math.hypot(0.15, 0.8, 0.05)  # from the box's middle (0.15, 0, 0.05)
    angle = torch.asin(radius / distance)  # half the angle under which the sphere is seen
    assert float(2 * 120.0 * angle.tan()) == pytest.approx(0.75 * 96, rel=1e-5)
    middle, measured = bounding_sphere(joints)
    assert measured[0] == pytest.approx(radius, rel=1e-6)
    assert torch.allclose(middle[0], torch.tensor([0.15, 0.0, 0.05]))


def test_a_crop_is_the_same_picture_cut_out():
    generator = torch.Generator().manual_seed(0)
    joints = torch.randn(4, 24, 3, generator=generator) * 0.4
    camera = look_at_camera(
        torch.rand(4, generator=generator) * 6, torch.rand(4, generator=generator), torch.tensor(4.0)
    )
    before = camera.project(joints)
    cropped = crop_camera(camera, torch.tensor([40.0, 60.0]).expand(4, 2), torch.full((4,), 32.0), 64)
    assert torch.allclose(cropped.project(joints), (before - torch.tensor([24.0, 44.0])) * 2, atol=1e-3)


def test_framed_joints_fill_the_box():
    generator = torch.Generator().manual_seed(1)
    joints = torch.randn(8, 24, 3, generator=generator) * 0.3 + 1.0
    camera = frame_person(joints, torch.linspace(-3, 3, 8), torch.linspace(-1, 1, 8), size_px=96, distance_scale=1.7)
    centre, side = joints_box_px(camera.project(joints))
    assert torch.allclose(side, torch.full((8,), 96 / BOX_FACTOR), atol=1e-2)
    assert torch.allclose(centre, torch.full((8, 2), 48.0), atol=1e-2)
    again = crop_to_person(camera, joints)
    assert torch.allclose(again.focal, camera.focal, rtol=1e-4)


def test_viewing_angles_invert_look_at_and_follow_the_body():
    azimuth, elevation = angles(-170, -40, 0, 100), angles(-60, 0, 10, 80)
    camera = look_at_camera(azimuth, elevation, torch.tensor(2.0), angles(5, 10, 15, 20))
    a, e = viewing_angles(camera.R)
    assert torch.allclose(a, azimuth, atol=1e-5)
    assert torch.allclose(e, elevation, atol=1e-3)
    turned = aa_to_matrix(torch.tensor([[0.0, math.radians(30), 0.0]])).expand(4, 3, 3)
    a, _ = viewing_angles(camera.R, turned)
    assert a[2] == pytest.approx(math.radians(-30), abs=1e-5)  # the body turned to its left: seen from its right


def test_gradients_match_finite_differences():
    joints = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 0.4

    def project(azimuth, elevation, distance, roll, focal, target):
        return look_at_camera(azimuth, elevation, distance, roll, focal, 96, target).project(joints)

    inputs = [
        torch.tensor([0.3, -2.0]), torch.tensor([0.2, 1.5]), torch.tensor([3.0, 4.0]), torch.tensor([0.1, -0.4]),
        torch.tensor([120.0, 90.0]), torch.randn(2, 3, generator=torch.Generator().manual_seed(3)) * 0.1,
    ]  # fmt: skip
    assert torch.autograd.gradcheck(project, [value.double().requires_grad_() for value in inputs])
