"""Anchors: lifted people as a mixture that scenes are drawn from, each with the cameras that it may be seen by.

Dimensions: A anchors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from posegen.body.rotations import aa_to_matrix, matrix_to_aa
from posegen.errors import DataError
from posegen.scene import TensorRecord
from posegen.target.lift.parameters import camera_rotation
from posegen.target.lifted import Lifted

NEGLIGIBLE = 1e-3  # of a person's weight


@dataclass(frozen=True)
class Anchors(TensorRecord):
    """Poses of the target's people, in the frame of the camera that saw them, and what is known of that camera."""

    pose: Tensor  # (A,24,3) rad, global orient in the camera's frame (OpenCV axes)
    weight: Tensor  # (A,), sums to 1
    image: Tensor  # (A,) int64, which of the target's people
    elevation_rad: Tensor  # (A,)
    roll_rad: Tensor  # (A,)
    distance_m: Tensor  # (A,)
    elevation_spread_rad: Tensor  # (A,)
    log_distance_spread: Tensor  # (A,)

    def __len__(self) -> int:
        return len(self.pose)

    def in_world(self) -> Tensor:
        """Poses (A,24,3) with their root in a world with y up, whose camera is at azimuth 0."""
        rotation, _, _ = camera_rotation(self.elevation_rad, self.roll_rad)
        root = matrix_to_aa(rotation.mT @ aa_to_matrix(self.pose[:, 0]))
        return torch.cat([root[:, None], self.pose[:, 1:]], 1)

    def weighed(self, of_image: Tensor) -> Anchors:
        """The same anchors with the people weighed anew, such as by how badly an estimator reprojects on them.

        Args:
            of_image: (N,) not negative, one for each of the target's people.
        """
        if (of_image < 0).any() or not torch.isfinite(of_image).all() or not of_image[self.image].sum() > 0:
            raise DataError("weights of the target's people must be finite, not negative and not all 0")
        within = torch.zeros(len(of_image)).index_add_(0, self.image, self.weight)[self.image]
        weight = self.weight / within.clamp_min(1e-12) * of_image[self.image]
        return replace(self, weight=weight / weight.sum())


def anchors_of(lifted: Lifted, temperature: float) -> Anchors:
    """All hypotheses of some weight as anchors; every person counts alike.

    Args:
        temperature: the weights of a person's hypotheses are sharpened or flattened to weight^(1/temperature).
    """
    h = lifted.hypotheses
    share = h.weight.clamp_min(1e-12) ** (1 / temperature)
    share = share / share.sum(1, keepdim=True)
    kept = share >= NEGLIGIBLE
    share = share * kept
    share = share / share.sum()
    image = torch.arange(len(h))[:, None].expand_as(share)
    rotation, _, _ = camera_rotation(h.elevation_rad[kept], h.roll_rad[kept])
    pose = h.pose[kept]
    root = matrix_to_aa(rotation @ aa_to_matrix(pose[:, 0]))
    return Anchors(
        torch.cat([root[:, None], pose[:, 1:]], 1), share[kept], image[kept], h.elevation_rad[kept], h.roll_rad[kept],
        h.distance_m[kept], h.elevation_spread_rad[kept], h.log_distance_spread[kept],
    )  # fmt: skip
