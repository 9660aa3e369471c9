"""Forward kinematics of the SMPL tree."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL_PARENTS


@lru_cache
def tree_levels() -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """Joints and their parents by depth, so that a level is one batched product (9 levels instead of 23 steps)."""
    depth = [0] * len(SMPL_PARENTS)
    for joint, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            depth[joint] = depth[parent] + 1
    levels = []
    for d in range(1, max(depth) + 1):
        joints = tuple(j for j in range(len(depth)) if depth[j] == d)
        levels.append((joints, tuple(SMPL_PARENTS[j] for j in joints)))
    return tuple(levels)


def forward_kinematics(rotations: Tensor, rest_joints_m: Tensor) -> tuple[Tensor, Tensor]:
    """Poses the SMPL skeleton.

    Args:
        rotations: (B,24,3,3) of each joint relative to its parent.
        rest_joints_m: (24,3) or (B,24,3), metres.

    Returns:
        global rotations (B,24,3,3) and joint positions (B,24,3), metres, the pelvis at its rest position.
        Differentiable in both arguments.
    """
    rest = rest_joints_m.expand(len(rotations), -1, -1)
    out_rotation: list[Tensor] = [rotations[:, 0]] + [rotations[:, 0]] * 23
    out_position: list[Tensor] = [rest[:, 0]] + [rest[:, 0]] * 23
    for joints, parents in tree_levels():
        parent_rotation = torch.stack([out_rotation[p] for p in parents], 1)
        parent_position = torch.stack([out_position[p] for p in parents], 1)
        offset = rest[:, list(joints)] - rest[:, list(parents)]
        position = parent_position + (parent_rotation @ offset[..., None])[..., 0]
        rotation = parent_rotation @ rotations[:, list(joints)]
        for i, joint in enumerate(joints):
            out_rotation[joint], out_position[joint] = rotation[:, i], position[:, i]
    return torch.stack(out_rotation, 1), torch.stack(out_position, 1)
