"""Few points bound a posed body nearly as all vertices do, and move with it."""

from __future__ import annotations

from pathlib import Path

import torch

from posegen.body.cameras import frame_person, joints_box_px
from posegen.body.mocap import load_clips
from posegen.body.model import load_body, sample_betas
from posegen.body.outline import Outline, sphere_directions
from posegen.body.rotations import aa_to_matrix


def test_boxes_of_the_outline_are_those_of_the_surface(assets: Path) -> None:
    body = load_body(resolution="low")
    outline = Outline(body)
    assert 200 < len(outline) < len(body.v_template) / 5
    g = torch.Generator().manual_seed(0)
    pose = torch.cat([clip.pose for clip in load_clips(["cartwheel", "roll", "walk", "cmu_01_05"])])
    pose = pose[torch.randint(len(pose), (80,), generator=g)]
    betas, transl = sample_betas(80, g), torch.randn(80, 3, generator=g)
    posed, few = body(pose, betas, transl), outline(aa_to_matrix(pose), betas, transl)
    angles = torch.rand(80, generator=g)
    camera = frame_person(posed.joints, 6 * angles, angles - 0.5, held_m=posed.vertices)
    (centre, side), (centre_few, side_few) = (joints_box_px(camera.project(p)) for p in (posed.vertices, few))
    assert float((side_few / side - 1).abs().max()) < 0.03 and float((side_few / side - 1).abs().mean()) < 0.005
    assert float(((centre_few - centre).norm(dim=1) / side).max()) < 0.02
    assert torch.allclose(few, posed.vertices[:, outline.index], atol=1e-5), "they are vertices of the body"


def test_directions_are_unit_and_spread() -> None:
    directions = sphere_directions(24)
    assert torch.allclose(directions.norm(dim=1), torch.ones(24), atol=1e-5)
    assert float(directions.mean(0).norm()) < 0.05
    cosine = directions @ directions.T - 2 * torch.eye(24)
    assert float(cosine.max()) < 0.9
