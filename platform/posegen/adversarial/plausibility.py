"""The plausibility meter: are generated poses near real ones, inside the joints' limits, and still varied?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from posegen.body.model import BodyModel
from posegen.body.pose_space import joint_limit_violation_rad, nearest_pose_distance_mm
from posegen.body.rotations import aa_to_matrix, mirror_pose


@dataclass(frozen=True)
class Plausibility:
    """Three numbers of one batch of poses."""

    nearest_mm: float  # mean distance per joint to the nearest real pose, global orient left out
    violation_rad: float  # mean joint-limit violation
    diversity_mm: float  # mean distance per joint between two random samples

    def as_dict(self, prefix: str = "") -> dict[str, float]:
        return {prefix + key: float(value) for key, value in vars(self).items()}


class PlausibilityMeter:
    """Measures poses against a pool of real poses (and their mirror images).

    Args:
        real_poses: (P,24,3) rad.
        body: gives joint positions of the mean shape.
    """

    def __init__(self, real_poses: Tensor, body: BodyModel) -> None:
        self.body = body
        self.pool = self._joints(torch.cat([real_poses, mirror_pose(real_poses)]))

    @torch.no_grad()
    def _joints(self, pose: Tensor) -> Tensor:
        rotations = aa_to_matrix(pose).clone()
        rotations[:, 0] = torch.eye(3, dtype=pose.dtype, device=pose.device)
        return self.body.joints(rotations, pose.new_zeros(len(pose), 10))

    @torch.no_grad()
    def measure(self, pose: Tensor) -> Plausibility:
        """pose (B,24,3) rad, B >= 2."""
        joints = self._joints(pose)
        other = joints.roll(len(joints) // 2 or 1, 0)
        return Plausibility(
            nearest_mm=float(nearest_pose_distance_mm(joints, self.pool.to(joints)).mean()),
            violation_rad=float(joint_limit_violation_rad(pose).mean()),
            diversity_mm=float((joints - other).norm(dim=-1).mean() * 1000),
        )


class FeedbackGate:
    """Acts on the meter: halves the feedback's weight while a limit is broken, lets it recover afterwards."""

    def __init__(self, reference: Plausibility, nearest_ratio: float, violation_rad: float, diversity_ratio: float):
        self.reference = reference
        self.max_nearest_mm = nearest_ratio * max(reference.nearest_mm, 1.0)
        self.max_violation_rad = reference.violation_rad + violation_rad
        self.min_diversity_mm = diversity_ratio * reference.diversity_mm
        self.weight = 1.0

    def broken(self, now: Plausibility) -> list[str]:
        """The names of the limits that a measurement breaks."""
        checks = {
            "nearest_mm": now.nearest_mm > self.max_nearest_mm,
            "violation_rad": now.violation_rad > self.max_violation_rad,
            "diversity_mm": now.diversity_mm < self.min_diversity_mm,
        }
        return [name for name, is_broken in checks.items() if is_broken]

    def update(self, now: Plausibility) -> float:
        self.weight = self.weight / 2 if self.broken(now) else min(1.0, self.weight * 1.25)
        return self.weight


def meter_summary(state: Mapping[str, Any]) -> dict[str, float]:
    """What a loop's final state says of its samples, beside the unshifted proposal's figures."""
    out = {f"proposal_{key}": float(value) for key, value in state["reference"].items()}
    out.update({key: float(value) for key, value in state["measured"].items()})
    out["feedback_gate"] = float(state["gate"])
    return out
