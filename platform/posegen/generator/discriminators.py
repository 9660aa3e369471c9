"""Discriminators against real poses: one path a body part and one for the whole body, and one on 2-D projections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from posegen.body.joint_sets import SMPL24
from posegen.body.rotations import aa_to_matrix, matrix_to_rot6d

PARTS: dict[str, tuple[str, ...]] = {
    "left_leg": ("left_hip", "left_knee", "left_ankle"),
    "right_leg": ("right_hip", "right_knee", "right_ankle"),
    "left_arm": ("left_collar", "left_shoulder", "left_elbow", "left_wrist"),
    "right_arm": ("right_collar", "right_shoulder", "right_elbow", "right_wrist"),
    "torso": ("spine1", "spine2", "spine3", "neck", "head", "left_hip", "right_hip"),
    "body": SMPL24.joints[1:],
}


def _mlp(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1)
    )


class PoseDiscriminator(nn.Module):
    """Scores poses part by part. Global orient is left out: it is no property of a pose.

    Rotations enter as 6-D vectors, which are continuous, where the release fed axis-angles.
    """

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        self.indices = {part: [SMPL24.index(j) for j in joints] for part, joints in PARTS.items()}
        self.paths = nn.ModuleDict({part: _mlp(6 * len(index), hidden) for part, index in self.indices.items()})

    def forward(self, pose: Tensor) -> Tensor:
        """pose (B,24,3) rad -> scores (B, parts); near 1 is real."""
        feature = matrix_to_rot6d(aa_to_matrix(pose))
        return torch.cat([path(feature[:, self.indices[part]].flatten(1)) for part, path in self.paths.items()], 1)


class ProjectionDiscriminator(nn.Module):
    """Scores 2-D skeletons, centred and scaled to unit spread: camera and pose together.

    Args:
        joints: which of SMPL's joints it sees, where real ones are keypoints that tell only some; each may be unseen
            then, and the middle is that of those seen. None: all of them, centred on the pelvis.
    """

    def __init__(self, hidden: int = 128, joints: Sequence[int] | None = None) -> None:
        super().__init__()
        self.joints = None if joints is None else list(joints)
        self.path = _mlp(len(SMPL24) * 2 if self.joints is None else len(self.joints) * 3, hidden)

    def forward(self, joints_px: Tensor, seen: Tensor | None = None) -> Tensor:
        """joints_px (B,24,2), seen (B,24) 0 or 1 (None: all) -> scores (B,1)."""
        if self.joints is None:
            centred = SMPL24.centred(joints_px)
            scale = centred.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-3)
            return self.path((centred / scale).flatten(1))
        points = joints_px[:, self.joints]
        weight = torch.ones_like(points[..., :1]) if seen is None else seen[:, self.joints, None]
        placed = normalised(points, weight)
        return self.path(torch.cat([placed, weight], 2).flatten(1))


def normalised(points: Tensor, weight: Tensor) -> Tensor:
    """Points (B,C,2) about the middle of those seen (weight (B,C,1) of 1) in units of their spread; others are 0."""
    count = weight.sum(1, keepdim=True).clamp_min(1)
    centred = (points - (points * weight).sum(1, keepdim=True) / count) * weight
    scale = (centred.square().sum((1, 2), keepdim=True) / (2 * count)).sqrt().clamp_min(1e-3)
    return centred / scale


def lsgan_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Least squares GAN (Mao et al. 2017): real scores towards 1, fake scores towards 0."""
    return 0.5 * ((real - 1).square().mean() + fake.square().mean())


def lsgan_generator_loss(fake: Tensor) -> Tensor:
    """Least squares GAN: fake scores towards 1."""
    return 0.5 * (fake - 1).square().mean()


class ReplayPool:
    """Past fakes that the discriminator keeps seeing (Shrivastava et al. 2017), so that it does not forget.

    Half of each batch is swapped with the pool once the pool is full. Its contents are part of the checkpoint.
    """

    def __init__(self, capacity: int, shape: tuple[int, ...]) -> None:
        self.capacity = capacity
        self.items = torch.zeros(0, *shape)

    def exchange(self, fakes: Tensor, generator: torch.Generator) -> Tensor:
        """Takes fakes (B, ...) on any device; returns a batch of the same size, half of it from the past."""
        fresh = fakes.detach().cpu()
        room = self.capacity - len(self.items)
        order = torch.randperm(len(fresh), generator=generator)
        if room > 0:
            self.items = torch.cat([self.items, fresh[order[:room]]])
            return fakes.detach()
        half = min(len(fresh) // 2, self.capacity)
        slots = torch.randperm(self.capacity, generator=generator)[:half]
        old = self.items[slots]
        self.items = self.items.clone()
        self.items[slots] = fresh[order[:half]]
        return torch.cat([old, fresh[order[half:]]]).to(fakes.device)
