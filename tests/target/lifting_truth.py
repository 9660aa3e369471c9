"""Keypoints with known truth: scenes of a part of the split, projected, with noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.body.joint_sets import LIMBS12, SMPL24
from posegen.body.model import BodyModel
from posegen.body.rotations import aa_to_matrix
from posegen.scenes.sampler import SceneDraw, SceneSampler
from posegen.scenes.split import SplitPart
from posegen.target.lift.lifter import Hypotheses
from posegen.target.lift.sequence import camera_joints

LIMBS = [SMPL24.index(name) for name in LIMBS12.joints]


@dataclass(frozen=True)
class Measured:
    """Errors of hypotheses (N,H): joints in mm about the pelvis in the camera's axes, angles in degrees."""

    joints_mm: Tensor
    elevation_deg: Tensor
    up_deg: Tensor  # between the true up and the hypothesis', in the frame of the person


def keypoints_of(part: SplitPart, count: int, seed: int, noise_px: float = 1.0) -> tuple[Tensor, SceneDraw]:
    """12 keypoints (N,12,3) of scenes at 96 px, in sides of their box, and the scenes."""
    draw = SceneSampler(part).draw(torch.arange(count), seed)
    points = draw.scene.camera.project(draw.joints_m)[:, LIMBS]
    points = points + noise_px * torch.randn(points.shape, generator=torch.Generator().manual_seed(seed))
    low, high = points.amin(1, keepdim=True), points.amax(1, keepdim=True)
    side = (high - low).amax(2, keepdim=True)
    return torch.cat([(points - (low + high) / 2) / side, torch.ones(count, len(LIMBS), 1)], 2), draw


def measured(hypotheses: Hypotheses, draw: SceneDraw, body: BodyModel) -> Measured:
    found = camera_joints(hypotheses, body)
    true = draw.scene.camera.to_camera(draw.joints_m)
    true = true - true[:, :1]
    up = aa_to_matrix(draw.scene.pose[:, 0])[:, 1]
    said = aa_to_matrix(hypotheses.pose[..., 0, :])[..., 1, :]
    cosine = (said * up[:, None]).sum(-1).clamp(-1, 1)
    elevation = (hypotheses.elevation_rad - draw.elevation_rad[:, None]).abs()
    return Measured(
        1000 * (found - true[:, None]).norm(dim=-1).mean(-1),
        torch.rad2deg(elevation),
        torch.acos(cosine) * 180 / math.pi,
    )
