"""What is known of poses and cameras before a picture is seen: learned from the pool of real poses.

The pose prior is a kernel density over the pool: each dictionary pose is a component, and all share one Gaussian kernel
in axis-angle space, whose covariance is a share of the pool's own (so that joints move together as they do in motion)
and a spread of each joint by itself (so that poses outside of the pool can be reached). Upright and floor: a pool pose
brings its own tilt, and changing it costs; so what stands in the pool is explained by an elevated camera rather than
by a leaning person.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.body.pose_space import JointLimits, measured_limits
from posegen.body.rotations import mirror_pose
from posegen.target.lift.config import LiftConfig

# What motion capture does not move, it does not let us change either, rad.
STD_RANGE_RAD = (0.06, 0.7)


@dataclass(frozen=True)
class PosePrior:
    """Shared kernel of the pose density and the limits of the joints.

    Args:
        precision: (69,69) 1/rad^2, inverse covariance of the kernel over the 23 joints after the pelvis.
        factor: (69,69), lower triangular root of the covariance.
        limits: boxes that the joints should stay in.
    """

    precision: Tensor
    factor: Tensor
    limits: JointLimits


def pose_prior(poses: Tensor, config: LiftConfig) -> PosePrior:
    """The kernel of a pool of real poses (P,24,3) rad, mirrored too."""
    both = torch.cat([poses, mirror_pose(poses)]).double()[:, 1:].flatten(1)
    covariance = torch.cov(both.T)
    std = covariance.diagonal().sqrt().clamp(*STD_RANGE_RAD)
    kernel = config.kernel_share**2 * covariance + torch.diag((config.kernel_own * std).square())
    return PosePrior(
        torch.linalg.inv(kernel).float(), torch.linalg.cholesky(kernel).float(), measured_limits(poses.float())
    )
