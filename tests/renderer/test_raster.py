"""Rasterised pictures are the ray-traced ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from simple_meshes import BOX, SPHERE, scene

from posegen.body.subjects import load_subjects
from posegen.errors import ConfigError
from posegen.renderer.mesh import MeshRenderer
from posegen.renderer.raster import RasterRenderer
from posegen.scene import Renderer, Scene
from posegen.scenes.sampler import SceneSampler
from posegen.scenes.split import load_split


def both(subjects, s: Scene, supersampling: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Colour and coverage (B,4,H,W) by either way."""
    renderers = MeshRenderer(subjects, supersampling), RasterRenderer(subjects, supersampling)
    assert isinstance(renderers[1], Renderer)
    traced, rastered = (torch.cat(renderer(s), 1) for renderer in renderers)
    return traced, rastered


def test_shapes_that_hide_themselves_and_leave_the_picture() -> None:
    generator = torch.Generator().manual_seed(0)
    s = scene(size=(48, 64), centre=(10.3, 30.7), light=(0.4, -0.6, -0.7), ambient=0.3, diffuse=0.7, batch=4)
    pose = s.pose.clone()
    pose[:, 0] = torch.randn(4, 3, generator=generator)
    s = replace(s, pose=pose, subject=torch.tensor([0, 1, 1, 0]))
    traced, rastered = both([SPHERE, BOX], s)
    assert 0.02 < float(traced[:, 3].mean()) < 0.9
    off = (traced - rastered).abs()
    assert float((off > 1e-3).float().mean()) < 1e-3  # a ray that meets an edge may fall to either side


@pytest.mark.usefixtures("assets")
def test_dressed_people() -> None:
    part = load_split()["source-wide"]
    s = SceneSampler(part, size_px=64)(torch.arange(8), 3)
    traced, rastered = both(load_subjects(list(part.subjects)), s)
    assert 0.1 < float(traced[:, 3].mean()) < 0.6
    off = (traced - rastered).abs()
    assert float((off > 0.01).float().mean()) < 1e-4 and float(off.mean()) < 1e-5


def test_nothing_is_seen_of_what_lies_behind_the_camera_or_beside_the_picture() -> None:
    for s in (scene(distance=-3.0), scene(centre=(900.0, 32.0))):
        rgb, alpha = RasterRenderer([SPHERE])(s)
        assert float(rgb.abs().max()) == float(alpha.max()) == 0


def test_pictures_do_not_depend_on_what_is_made_with_them(monkeypatch) -> None:
    s = scene(batch=5, light=(0.5, 0.0, -0.8), ambient=0.2, diffuse=0.8)
    together = RasterRenderer([BOX], 2)(s)[0]
    monkeypatch.setattr("posegen.renderer.raster.CHUNK", {"cpu": 1, "cuda": 1})
    assert torch.equal(together, RasterRenderer([BOX], 2)(s)[0])


def test_wrong_subjects_and_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="not all among"):
        RasterRenderer([BOX])(replace(scene(), subject=torch.tensor([1])))
    with pytest.raises(ConfigError, match="supersampling"):
        RasterRenderer([BOX], 0)
    with pytest.raises(ConfigError, match="at least one subject"):
        RasterRenderer([])
