"""A dictionary of poses x views x tilts, and its entries that look most like given 2-D points.

Dimensions: D entries, N pictures, M points, T entries found for each picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from posegen.body.rotations import aa_to_matrix, mirror_pose
from posegen.scene import TensorRecord
from posegen.seeds import torch_generator
from posegen.target.lift.config import LiftConfig
from posegen.target.lift.parameters import ELEVATION, JOINTS, LOG_DEPTH, ROLL, Kinematics, camera_rotation
from posegen.target.lift.prior import PosePrior

CHUNK = 4096
PARTS = (  # joints after the pelvis that are exchanged between poses, as one: legs, trunk and head, arms
    (0, 3, 6, 9), (1, 4, 7, 10), (2, 5, 8, 11, 14), (12, 15, 17, 19, 21), (13, 16, 18, 20, 22),
)  # fmt: skip
MATCH_SIDES = 0.06  # what an entry's points may miss before it is solved, in sides of the box


@dataclass(frozen=True)
class Dictionary(TensorRecord):
    """D ways a person may look."""

    x: Tensor  # (D,P) unknowns of each; scale 1, no shift
    root: Tensor  # (D,3,3)
    cost: Tensor  # (D,) of the entry: how rare such a tilt or mixture is
    view_cost: Tensor  # (D,) of its camera
    points: Tensor  # (D,M,2) as seen
    joints: Tensor  # (D,12,3) m, camera frame, limbs

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Found(TensorRecord):
    """Entries like the points of N pictures, best first."""

    index: Tensor  # (N,T)
    cost: Tensor  # (N,T)
    scale: Tensor  # (N,T) of the entry's points
    shift: Tensor  # (N,T,2) sides of the box


LIMBS = (16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8)  # SMPL's shoulders, elbows, wrists, hips, knees, ankles


def build_dictionary(poses: Tensor, kinematics: Kinematics, prior: PosePrior, config: LiftConfig) -> Dictionary:
    """Draws the entries: seeded, so that the same pool gives the same dictionary.

    Args:
        poses: (P,24,3) rad, the pool of real poses in their world.
    """
    n, generator = config.dictionary, torch_generator(config.seed, "lift dictionary")

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    both = torch.cat([poses, mirror_pose(poses)]).float()
    pose = both[torch.randint(len(both), (n,), generator=generator)].clone()
    mixed = uniform(n) < config.mixed
    for part in PARTS:
        other = both[torch.randint(len(both), (n,), generator=generator)]
        take = mixed & (uniform(n) < 0.5)
        columns = [joint + 1 for joint in part]
        pose[:, columns] = torch.where(take[:, None, None], other[:, columns], pose[:, columns])
    blur = (config.blur * normal(n, 69)) @ prior.factor.T
    body = prior.limits.low.flatten().maximum(prior.limits.high.flatten().minimum(pose[:, 1:].flatten(1) + blur))
    tilted = uniform(n) < config.tilted
    axis = F.normalize(normal(n, 3) * torch.tensor([1.0, 0.0, 1.0]), dim=1)
    tilt = aa_to_matrix(axis * (math.pi * uniform(n) * tilted)[:, None])
    yaw = torch.zeros(n, 3)
    yaw[:, 1] = 2 * math.pi * uniform(n)
    root = tilt @ aa_to_matrix(yaw) @ aa_to_matrix(pose[:, 0])
    x = torch.zeros(n, kinematics.unknowns)
    x[:, JOINTS] = body
    views = normal(n, 3).clamp(-2.5, 2.5)
    for column, index, (middle, spread) in ((0, ELEVATION, config.elevation_deg), (1, ROLL, config.roll_deg)):
        x[:, index] = (math.radians(middle) + math.radians(spread) * views[:, column]).clamp(-1.5, 1.5)
    x[:, LOG_DEPTH] = math.log(config.distance[0]) + config.distance[1] * views[:, 2].clamp_min(-1.5)
    points, joints = [], []
    for part in torch.arange(n).split(CHUNK):
        points.append(kinematics.see(x[part], root[part], False).points)
        camera, _, _ = camera_rotation(x[part, ELEVATION], x[part, ROLL])
        joints.append(kinematics.posed(x[part], root[part])[1][:, LIMBS] @ camera.mT)
    cost = config.tilt_cost * tilted + config.mix_cost * mixed
    return Dictionary(x, root, cost, 0.5 * views[:, :2].square().sum(1), torch.cat(points), torch.cat(joints))


def find(entries: Dictionary, points: Tensor, weights: Tensor, count: int) -> Found:
    """The entries whose points, scaled and shifted as fits best, are nearest to those given.

    With weights w (sum 1) the least squares over scale a and shift t of sum w |a q + t - x|^2 is
    var(x) - cov(x, q)^2 / var(q) (for a > 0), so that all entries are compared by products of matrices.

    Args:
        points: (N,M,2) in sides of the box; weights: (N,M), relative.
        count: T.
    """
    share = weights / weights.sum(1, keepdim=True)
    x_mean = (share[..., None] * points).sum(1)
    x_var = (share[..., None] * points.square()).sum((1, 2)) - x_mean.square().sum(1)
    flat = entries.points.flatten(1)
    q_mean = torch.einsum("nm,dmc->ndc", share, entries.points)
    q_var = share @ entries.points.square().sum(-1).T - q_mean.square().sum(-1)
    both = (share[..., None] * points).flatten(1) @ flat.T - (x_mean[:, None] * q_mean).sum(-1)
    scale = both.clamp_min(1e-6) / q_var.clamp_min(1e-9)
    error = (x_var[:, None] - scale * both.clamp_min(0)).clamp_min(0)
    seen = (weights > 0).sum(1, keepdim=True)
    cost = 0.5 * error * seen / MATCH_SIDES**2 + entries.cost + entries.view_cost
    best, index = cost.topk(count, dim=1, largest=False)
    scale = scale.gather(1, index)
    shift = x_mean[:, None] - scale[..., None] * q_mean.gather(1, index[..., None].expand(-1, -1, 2))
    return Found(index, best, scale, shift)


def apart(cost: Tensor, joints: Tensor, count: int, distance_m: float) -> Tensor:
    """Of T candidates of each picture the best `count` that differ from each other: (N,count) indices, best first.

    Candidates too near to a chosen one wait until all others are chosen.

    Args:
        cost: (N,T); joints: (N,T,J,3) m.
    """
    remaining = cost.clone()
    near_cost = cost.amax() - cost.amin() + 1
    chosen = []
    rows = torch.arange(len(cost))
    for _ in range(count):
        best = remaining.argmin(1)
        chosen.append(best)
        gap = (joints - joints[rows, best][:, None]).norm(dim=-1).mean(-1)
        remaining = remaining + near_cost * (gap < distance_m)
        remaining[rows, best] = torch.inf
    return torch.stack(chosen, 1)
