"""People of one picture have one camera: what one of them says of its elevation and roll helps the others.

Dimensions: N people, H hypotheses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from posegen.body.model import BodyModel
from posegen.body.rotations import aa_to_matrix, matrix_to_aa
from posegen.target.lift.config import LiftConfig
from posegen.target.lift.lifter import Hypotheses
from posegen.target.lift.parameters import camera_rotation
from posegen.target.lift.sequence import camera_joints, reordered
from posegen.target.lift.world import settled, shared_camera, tilts_of, world_log_likelihood


def pictures_of(names: Sequence[str]) -> list[str]:
    """The picture of each person: names are the picture's with the person's number, `a.jpg#2`."""
    return [name.rpartition("#")[0] or name for name in names]


def in_one_camera(
    hypotheses: Hypotheses, pictures: Sequence[str], body: BodyModel, poses: Tensor, config: LiftConfig
) -> Hypotheses:
    """The same people with the cameras, tilts and weights of those who share a picture settled together.

    Args:
        pictures: (N,) the picture of each; people who are alone in theirs stay as they are.
        poses: (P,24,3) rad, the pool of real poses in their world.
    """
    counts = Counter(pictures)
    rows = torch.tensor([row for row, picture in enumerate(pictures) if counts[picture] > 1], dtype=torch.long)
    if not len(rows):
        return hypotheses
    numbers = {picture: number for number, picture in enumerate(dict.fromkeys(pictures[row] for row in rows.tolist()))}
    groups = torch.tensor([numbers[pictures[row]] for row in rows.tolist()])
    part = hypotheses[rows]
    n, h = part.score.shape
    camera, _, _ = camera_rotation(part.elevation_rad.flatten(), part.roll_rad.flatten())
    root_cam = camera @ aa_to_matrix(part.pose[:, :, 0].flatten(0, 1))
    joints = camera_joints(part, body).flatten(0, 1)
    tilts = tilts_of(poses, body, config)
    likelihood = torch.cat(
        [world_log_likelihood(joints[i], root_cam[i], tilts, config) for i in torch.arange(n * h).split(512)]
    ).view(n, h, -1)
    log_weight = part.weight.clamp_min(1e-12).log()
    posterior = shared_camera(likelihood, log_weight, groups, config)
    alone = shared_camera(likelihood, log_weight, torch.arange(n), config)
    world = settled(posterior.flatten(0, 1))
    placed, _, _ = camera_rotation(world.elevation, world.roll)
    root = matrix_to_aa(placed.mT @ root_cam).view(n, h, 1, 3)
    # What the others say of the camera speaks for the hypotheses that fit to it.
    gain = posterior.logsumexp(2) - alone.logsumexp(2)
    changed = {
        "pose": torch.cat([root, part.pose[:, :, 1:]], 2),
        "elevation_rad": world.elevation.view(n, h),
        "roll_rad": world.roll.view(n, h),
        "elevation_spread_rad": world.elevation_spread.view(n, h),
        "weight": torch.softmax(log_weight + gain, 1),
    }
    whole = {}
    for name, value in changed.items():
        whole[name] = getattr(hypotheses, name).clone()
        whole[name][rows] = value
    return reordered(replace(hypotheses, **whole))
