"""The reference renderer against geometry that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from simple_meshes import BOX, SPHERE, scene

from posegen.errors import ConfigError
from posegen.renderer.mesh import MeshRenderer
from posegen.scene import Renderer, Scene


def test_it_is_a_renderer() -> None:
    renderer = MeshRenderer([SPHERE])
    assert isinstance(renderer, Renderer)
    rgb, alpha = renderer(scene(size=(40, 64), batch=2))
    assert rgb.shape == (2, 3, 40, 64) and alpha.shape == (2, 1, 40, 64)


def test_a_spheres_coverage_is_its_analytic_area() -> None:
    # A sphere on the axis projects to a disc of radius f r / sqrt(d^2 - r^2).
    radius = 120 * 0.5 / (3.0**2 - 0.5**2) ** 0.5
    _, alpha = MeshRenderer([SPHERE], supersampling=4)(scene())
    assert float(alpha.sum()) == pytest.approx(np.pi * radius**2, rel=0.005)


@pytest.mark.parametrize("centre", [(32.0, 32.0), (20.25, 40.75)])
def test_the_centre_of_a_sphere_is_where_the_camera_says(centre: tuple[float, float]) -> None:
    _, alpha = MeshRenderer([SPHERE], supersampling=4)(scene(centre=centre))
    grid = torch.arange(64) + 0.5  # pixel centres
    total = alpha.sum()
    assert float((alpha[0, 0].sum(0) * grid).sum() / total) == pytest.approx(centre[0], abs=0.05)
    assert float((alpha[0, 0].sum(1) * grid).sum() / total) == pytest.approx(centre[1], abs=0.05)


def test_a_turned_boxs_outline_is_that_of_its_projected_corners() -> None:
    g = torch.Generator().manual_seed(0)
    s = scene(size=(128, 128), centre=(60.0, 70.0), batch=4)
    angles = torch.randn(4, 3, generator=g)
    pose = s.pose.clone()
    pose[:, 0] = angles
    s = Scene(pose, s.betas, s.transl, s.camera, s.subject, s.light, s.background)
    pixels = s.camera.project(BOX.posed(pose, s.betas, s.transl))
    _, alpha = MeshRenderer([BOX], supersampling=2)(s)
    for b in range(4):
        rows, columns = torch.nonzero(alpha[b, 0] > 0, as_tuple=True)
        low, high = pixels[b].amin(0), pixels[b].amax(0)
        # A covered pixel reaches from its number to its number plus one.
        assert abs(float(columns.min()) + 0.5 - float(low[0])) <= 1
        assert abs(float(columns.max()) + 0.5 - float(high[0])) <= 1
        assert abs(float(rows.min()) + 0.5 - float(low[1])) <= 1
        assert abs(float(rows.max()) + 0.5 - float(high[1])) <= 1


def test_light_from_the_left_brightens_the_left() -> None:
    rgb, _ = MeshRenderer([SPHERE])(scene(light=(-1.0, 0.0, 0.0)))
    assert float(rgb[0, :, 32, 18].mean()) > 0.5
    assert float(rgb[0, :, 32, 46].mean()) == 0
    rgb, _ = MeshRenderer([SPHERE])(scene(light=(0.0, -1.0, 0.0)))  # the world's -y is the image's top here
    assert float(rgb[0, :, 18, 32].mean()) > 0.5 > float(rgb[0, :, 46, 32].mean())


def test_shading_follows_lamberts_law() -> None:
    light = torch.nn.functional.normalize(torch.tensor([0.5, -0.3, -0.8]), dim=0)
    s = scene(light=tuple(light.tolist()), ambient=0.2, diffuse=0.7)
    image = MeshRenderer([SPHERE]).shade(s)
    for row, column in ((32, 32), (25, 40), (40, 28)):
        ray = torch.tensor([(column + 0.5 - 32) / 120, (row + 0.5 - 32) / 120, 1.0])
        point = ray * image.depth_m[0, 0, row, column]
        normal = (point - torch.tensor([0.0, 0.0, 3.0])) / 0.5
        expected = 0.2 + 0.7 * max(0.0, float(normal @ light))
        assert float(image.rgb[0, 0, row, column]) == pytest.approx(expected, abs=0.01)


def test_depth_is_along_the_optical_axis() -> None:
    image = MeshRenderer([SPHERE]).shade(scene(centre=(31.5, 31.5)))
    assert float(image.depth_m[0, 0, 31, 31]) == pytest.approx(2.5, abs=2e-3)
    assert float(image.depth_m[0, 0, 0, 0]) == 0


def test_colour_is_premultiplied_and_of_the_subject() -> None:
    renderer = MeshRenderer([SPHERE, BOX], supersampling=3)
    s = scene(batch=2, ambient=1.0, diffuse=0.0)
    s = Scene(s.pose, s.betas, s.transl, s.camera, torch.tensor([1, 0]), s.light, s.background)
    rgb, alpha = renderer(s)
    expected = alpha * torch.tensor([[0.2, 0.5, 0.8], [1.0, 1.0, 1.0]])[:, :, None, None]
    torch.testing.assert_close(rgb, expected, atol=1e-5, rtol=0)
    assert ((alpha > 0) & (alpha < 1)).any()


def test_supersampling_is_the_mean_of_a_finer_image() -> None:
    s = scene(light=(0.6, 0.0, -0.8))
    fine = Scene(s.pose, s.betas, s.transl, s.camera.resized(128, 128), s.subject, s.light, s.background)
    rgb, _ = MeshRenderer([BOX], supersampling=2)(s)
    finer, _ = MeshRenderer([BOX])(fine)
    torch.testing.assert_close(rgb, torch.nn.functional.avg_pool2d(finer, 2), atol=1e-4, rtol=0)


def test_nothing_is_seen_behind_the_camera() -> None:
    rgb, alpha = MeshRenderer([SPHERE])(scene(distance=-3.0))
    assert float(alpha.max()) == 0 and float(rgb.max()) == 0
    _, alpha = MeshRenderer([SPHERE])(scene(distance=0.3))  # the camera is inside
    assert float(alpha.min()) == 1


def test_wrong_subjects_are_named() -> None:
    s = scene()
    bad = Scene(s.pose, s.betas, s.transl, s.camera, torch.tensor([2]), s.light, s.background)
    with pytest.raises(ConfigError, match=r"subject 2[\s\S]*valid choices: 0, 1"):
        MeshRenderer([SPHERE, BOX])(bad)
    with pytest.raises(ConfigError, match="at least one"):
        MeshRenderer([])
