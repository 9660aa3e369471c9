"""A-NeRF's skeleton-relative encodings (Su et al. 2021, section 4).

After LemonATsu/A-NeRF core/encoders.py and core/cutoff_embedder.py.

A query point is described by its distance to each of 24 joints and by its direction in each bone's frame; a ray by its
direction in each bone's frame. Distances and ray directions are expanded in sines and cosines and faded out beyond a
cut-off distance, so that a point does not see bones far from it.

Dimensions: P points, J joints, F frequencies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

JOINTS = 24


def world_to_bones(rotations: Tensor, joints: Tensor) -> Tensor:
    """Bone transforms x_bone = R^T (x - joint): rotations (B,24,3,3), joints (B,24,3) -> (B,24,3,4)."""
    inverse = rotations.transpose(-1, -2)
    return torch.cat([inverse, -(inverse @ joints[..., None])], -1)


def in_bones(points: Tensor, bones: Tensor) -> Tensor:
    """Points (P,3) of one person in each bone's frame: bones (24,3,4) -> (P,24,3)."""
    return torch.einsum("jab,pb->pja", bones[..., :3], points) + bones[..., 3]


def directions_in_bones(directions: Tensor, bones: Tensor) -> Tensor:
    """Directions (P,3) in each bone's frame, unit length -> (P,24,3)."""
    turned = torch.einsum("jab,pb->pja", bones[..., :3], directions)
    return nn.functional.normalize(turned, dim=-1)


class CutoffEncoding(nn.Module):
    """x -> (x, sin 2^0 x, cos 2^0 x, ..., sin 2^(F-1) x, cos 2^(F-1) x), each joint's part times its cut-off weight.

    The weight is 1 - sigmoid(tau (distance - cutoff)). Names of parameter and buffer are those of the original's
    state dict, so that it loads strictly.

    Args:
        frequencies: F.
        per_joint: numbers that belong to one joint: 1 for distances, 3 for directions.
        cut_inputs: whether the plain x is faded out too.
        scheduled: whether frequencies were brought in one by one; the state dict then holds how far it got.
    """

    frequency_bands: Tensor
    tau: Tensor
    sched_alpha: Tensor | None

    def __init__(self, frequencies: int, per_joint: int, cut_inputs: bool = True, scheduled: bool = False) -> None:
        super().__init__()
        self.per_joint = per_joint
        self.cut_inputs = cut_inputs
        self.width = JOINTS * per_joint * (1 + 2 * frequencies)
        self.cutoff_dist = nn.Parameter(torch.full((JOINTS,), 0.5), requires_grad=False)
        self.register_buffer("tau", torch.tensor(20.0))
        self.register_buffer("sched_alpha", torch.tensor(float(frequencies)) if scheduled else None)
        self.register_buffer("frequency_bands", 2.0 ** torch.arange(frequencies), persistent=False)

    def forward(self, values: Tensor, distances: Tensor) -> Tensor:
        """values (P, 24 * per_joint), distances (P,24) -> (P, width)."""
        weight = 1 - torch.sigmoid(self.tau * (distances - self.cutoff_dist))
        weight = weight.repeat_interleave(self.per_joint, -1)[:, None]
        phase = self.frequency_bands[:, None] * values[:, None]
        waves = torch.stack([phase.sin(), phase.cos()], 2).flatten(1, 2)  # (P, 2F, 24 * per_joint)
        if self.sched_alpha is not None:
            shown = (self.sched_alpha - torch.arange(len(self.frequency_bands), device=values.device)).clamp(0, 1)
            waves = waves * (0.5 * (1 - torch.cos(torch.pi * shown))).repeat_interleave(2)[:, None]
        plain = values[:, None] * weight if self.cut_inputs else values[:, None]
        return torch.cat([plain, waves * weight], 1).flatten(1)


class PlainEncoding(nn.Module):
    """The same without cut-off: features are grouped by frequency, each over all values."""

    frequency_bands: Tensor

    def __init__(self, frequencies: int, per_joint: int) -> None:
        super().__init__()
        self.width = JOINTS * per_joint * (1 + 2 * frequencies)
        self.register_buffer("frequency_bands", 2.0 ** torch.arange(frequencies), persistent=False)

    def forward(self, values: Tensor, distances: Tensor) -> Tensor:
        """values (P,D) -> (P, D * (1 + 2F)); distances are not used."""
        phase = self.frequency_bands[:, None] * values[:, None]
        waves = torch.stack([phase.sin(), phase.cos()], 2).flatten(1, 2)
        return torch.cat([values[:, None], waves], 1).flatten(1)


class SkeletonEncoding(nn.Module):
    """All three encodings of a point on a ray: distances to joints, directions in bones, ray direction in bones.

    Args:
        distance, direction, view: encodings of (P,24), (P,72) and (P,72) numbers.
    """

    def __init__(self, distance: nn.Module, direction: nn.Module, view: nn.Module) -> None:
        super().__init__()
        self.distance = distance
        self.direction = direction
        self.view = view

    def forward(self, points: Tensor, directions: Tensor, bones: Tensor) -> tuple[Tensor, Tensor]:
        """Features of density and of view.

        Args:
            points: (P,3); directions: (P,3), any length; bones: (24,3,4) world to bone.
        """
        local = in_bones(points, bones)
        distances = local.norm(dim=-1)
        towards = nn.functional.normalize(local, dim=-1).flatten(1)
        rays = directions_in_bones(directions, bones).flatten(1)
        density = torch.cat([self.distance(distances, distances), self.direction(towards, distances)], -1)
        return density, self.view(rays, distances)
