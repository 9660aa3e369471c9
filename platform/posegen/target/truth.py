"""A lifted target in which nothing is guessed: people of the embedded world and their cameras as they are.

No user has it. It tells what perfect lifting would bring, and, of the tests themselves, what choosing scenes can bring
at most.

Dimensions: N people.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from posegen.body.joint_sets import LIMBS12, SMPL24
from posegen.body.rotations import aa_to_matrix, matrix_to_aa
from posegen.scene import Camera
from posegen.scenes.sampler import SceneSampler
from posegen.scenes.split import SplitPart
from posegen.target.lift.lifter import Hypotheses
from posegen.target.lift.parameters import camera_rotation
from posegen.target.lifted import Lifted

ELEVATION_SPREAD_RAD = math.radians(1.0)  # the least that a lifter would claim
LOG_DISTANCE_SPREAD = 0.05


def tilt(camera: Camera) -> tuple[Tensor, Tensor]:
    """Elevation and roll (N,) rad of cameras in a world with y up, as `camera_rotation` takes them."""
    elevation = torch.asin((-camera.R[:, 2, 1]).clamp(-1, 1))
    return elevation, torch.atan2(camera.R[:, 0, 1], -camera.R[:, 1, 1])


def true_lifted(parts: Sequence[SplitPart], images: int, seed: int = 0) -> Lifted:
    """The first `images` people of each part, each with one hypothesis: the truth.

    Args:
        seed: of the draws; 0 is that of the stand-ins and of their target parts.
    """
    hypotheses: list[Hypotheses] = []
    keypoints, names = [], []
    in_smpl = LIMBS12.common(SMPL24)[1]
    for part in parts:
        draw = SceneSampler(part).draw(torch.arange(images), seed)
        scene, camera = draw.scene, draw.scene.camera
        points = camera.project(draw.joints_m[:, in_smpl])
        keypoints.append(torch.cat([points, torch.ones(images, len(in_smpl), 1)], 2))
        names += [f"{part.name}/{number:05d}" for number in range(images)]
        elevation, roll = tilt(camera)
        level, _, _ = camera_rotation(elevation, roll)
        root = matrix_to_aa(level.mT @ camera.R @ aa_to_matrix(scene.pose[:, 0]))
        pelvis = camera.to_camera(draw.joints_m)[:, 0]
        known = torch.ones(images)
        one = Hypotheses(
            pose=torch.cat([root[:, None], scene.pose[:, 1:]], 1), betas=scene.betas, elevation_rad=elevation,
            roll_rad=roll, distance_m=pelvis[:, 2], focal=camera.focal / _side(points), shift_m=pelvis[:, :2],
            elevation_spread_rad=ELEVATION_SPREAD_RAD * known, log_distance_spread=LOG_DISTANCE_SPREAD * known,
            score=0 * known, reprojection=0 * known, weight=known,
        )  # fmt: skip
        hypotheses.append(Hypotheses(**{name: value[:, None] for name, value in vars(one).items()}))
    points = torch.cat(keypoints)
    centre = (points[..., :2].amin(1) + points[..., :2].amax(1)) / 2
    return Lifted(
        Hypotheses.cat(hypotheses), LIMBS12.name, points.numpy(), tuple(names), (),
        centre.double().numpy(), _side(points[..., :2]).double().numpy(), {},
    )  # fmt: skip


def _side(points: Tensor) -> Tensor:
    return (points.amax(1) - points.amin(1)).amax(1)
