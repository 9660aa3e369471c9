"""What poses are near real ones: the joints' limits as measured on motion capture, and the distance to a pool."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from posegen.body.mocap import load_clips
from posegen.body.rotations import mirror_pose

MARGIN_RAD = 0.35  # the clips do not reach the end of every joint's range


@lru_cache
def joint_limits_rad() -> tuple[Tensor, Tensor]:
    """Lowest and highest axis-angle (24,3) of each joint in the embedded clips and their mirror images, and a margin.

    The root has no limits: how a body lies in the world is no property of its pose.
    """
    pose = torch.cat([clip.pose for clip in load_clips()])
    pose = torch.cat([pose, mirror_pose(pose)])
    low, high = pose.amin(0) - MARGIN_RAD, pose.amax(0) + MARGIN_RAD
    low[0], high[0] = -torch.inf, torch.inf
    return low, high


def joint_limit_violation_rad(pose: Tensor) -> Tensor:
    """How far a pose lies outside the limits: (B,24,3) rad -> (B,) rad, the sum over joints. Differentiable."""
    low, high = (limit.to(pose) for limit in joint_limits_rad())
    return (torch.relu(low - pose) + torch.relu(pose - high)).sum((1, 2))


def nearest_pose_distance_mm(joints_m: Tensor, pool_joints_m: Tensor, chunk: int = 256) -> Tensor:
    """Mean distance per joint to the nearest pose of a pool: (B,J,3) m and (P,J,3) m, same root -> (B,) mm."""
    parts = []
    for part in joints_m.split(chunk):
        distance = (part[:, None] - pool_joints_m[None]).norm(dim=-1).mean(-1)
        parts.append(distance.amin(1))
    return torch.cat(parts) * 1000
