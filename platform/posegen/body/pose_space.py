"""How plausible poses are: excess over joint limits, distance to the nearest known pose.

The limits are measured on motion: for each joint the box of axis-angle components that occur in the pool clips and
their mirror images, widened by a margin. Joints that the embedded clips do not move (collars, wrists, hands, toes) get
the anatomical floor below. No clip of a test split is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24
from posegen.body.rotations import mirror_pose

# The pool split's clips (conf/split/embedded.yaml).
LIMIT_CLIPS = (
    "walk", "run", "jump", "punch", "getup_faceup", *(f"cmu_01_{trial:02d}" for trial in range(2, 15)),
    "cmu_02_01", "cmu_02_06", "cmu_02_07", "cmu_02_08", "cmu_02_10",
)  # fmt: skip
MARGIN_RAD = 0.35
# Everybody can do at least this, rad about each axis of the joint.
FLOOR_RAD = {"collar": 0.35, "wrist": 0.6, "hand": 0.4, "foot": 0.5, "spine": 0.4, "neck": 0.5, "head": 0.5}


@dataclass(frozen=True)
class JointLimits:
    """Boxes of axis-angle components of the 23 joints after the pelvis: low and high (23,3) rad."""

    low: Tensor
    high: Tensor

    def excess_rad(self, pose: Tensor) -> Tensor:
        """How far each joint is outside of its box: (B,24,3) rad -> (B,23) rad. Zero inside; differentiable."""
        body = pose[:, 1:]
        low, high = self.low.to(body), self.high.to(body)
        outside = (low - body).clamp_min(0) + (body - high).clamp_min(0)
        square = (outside * outside).sum(-1)
        return torch.where(square > 0, square.clamp_min(1e-12).sqrt(), square)


def measured_limits(pose: Tensor, margin_rad: float = MARGIN_RAD) -> JointLimits:
    """Limits that hold all given poses (N,24,3) rad and their mirror images, widened."""
    both = torch.cat([pose, mirror_pose(pose)])[:, 1:]
    floor = torch.zeros(23, 1)
    for index, name in enumerate(SMPL24.joints[1:]):
        part = name.split("_")[-1].rstrip("123")
        floor[index] = FLOOR_RAD.get(part, 0.0)
    low = torch.minimum(both.amin(0) - margin_rad, -floor)
    high = torch.maximum(both.amax(0) + margin_rad, floor)
    return JointLimits(low, high)


@lru_cache(maxsize=1)
def default_limits() -> JointLimits:
    """The limits measured on the embedded pool clips."""
    from posegen.body.mocap import load_clips

    return measured_limits(torch.cat([clip.pose for clip in load_clips(LIMIT_CLIPS)]))


def joint_limit_violation_rad(pose: Tensor, limits: JointLimits | None = None) -> Tensor:
    """The sum over joints of what exceeds the limits: (B,24,3) rad -> (B,) rad, zero for a pose within them."""
    return (limits or default_limits()).excess_rad(pose).sum(-1)


def nearest_pose_distance_mm(joints: Tensor, pool_joints: Tensor, chunk: int = 256) -> Tensor:
    """Mean distance of joints to the nearest pose of a pool.

    Both are centred on their first joint. Take joints with the root rotation removed (identity global orient) and
    zero betas to compare poses whichever way people face and whatever their build.

    Args:
        joints: (B,J,3) m; pool_joints: (N,J,3) m.

    Returns:
        (B,) mm.
    """
    a = joints - joints[:, :1]
    pool = (pool_joints - pool_joints[:, :1]).to(a)
    nearest = [torch.linalg.norm(a[:, None] - part[None], dim=-1).mean(-1).amin(1) for part in pool.split(chunk)]
    return 1000 * torch.stack(nearest).amin(0)
