"""Draws around the target's people: poses as they were lifted, and where their cameras may be.

A person is drawn by the anchors' weights. The root gets a little noise; the joints' noise is the drawer's. Cameras lie
around the person's own: azimuth within `azimuth_deg`, elevation and distance as uncertain as lifting left them, each
uniform with the standard deviation of that.

Dimensions: n draws, A anchors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.body.rotations import aa_to_matrix, matrix_to_aa, mirror_pose
from posegen.scenes.views import Views
from posegen.target.anchors import Anchors
from posegen.target.config import TargetConfig

MAX_SPREAD = (0.35, 0.5)  # of elevation (rad) and log distance: what lifting does not know at all stays near the prior
ELEVATION_LIMIT_DEG = 80.0
ROLL_DEG = 3.0  # half range about the lifted roll


@dataclass(frozen=True)
class TargetDraw:
    """n people with where their cameras may be."""

    pose: Tensor  # (n,24,3) rad, world with the target's camera at azimuth 0
    view: Views
    person: Tensor  # (n,) int64, which of the target's people


class TargetDraws:
    """Draws from anchors.

    Args:
        anchors: of a lifted target.
        settings: noise and ranges of cameras.
        mirror: whether half of the people are mirrored left to right.
    """

    def __init__(self, anchors: Anchors, settings: TargetConfig, mirror: bool = True) -> None:
        self.anchors, self.settings, self.mirror = anchors, settings, mirror
        self.poses = anchors.in_world()  # (A,24,3)

    def draw(self, n: int, generator: torch.Generator) -> TargetDraw:
        """n draws from a CPU generator, on the CPU."""
        chosen = torch.multinomial(self.anchors.weight, n, replacement=True, generator=generator)
        anchor, pose = self.anchors[chosen], self.poses[chosen]
        turn = math.radians(self.settings.root_noise_deg) * torch.randn(n, 3, generator=generator)
        root = matrix_to_aa(aa_to_matrix(turn) @ aa_to_matrix(pose[:, 0]))
        pose = torch.cat([root[:, None], pose[:, 1:]], 1)
        roll = torch.rad2deg(anchor.roll_rad)
        flip = torch.rand(n, generator=generator) < 0.5
        if self.mirror:
            pose = torch.where(flip[:, None, None], mirror_pose(pose), pose)
            roll = torch.where(flip, -roll, roll)
        return TargetDraw(pose, self._views(anchor, roll), anchor.image)

    def _views(self, anchor: Anchors, roll_deg: Tensor) -> Views:
        settings, n = self.settings, len(anchor)
        spread = anchor.elevation_spread_rad.clamp_max(MAX_SPREAD[0]).square()
        half = math.sqrt(3) * torch.rad2deg((spread + math.radians(settings.elevation_deg) ** 2).sqrt())
        elevation = torch.rad2deg(anchor.elevation_rad)
        log_half = math.sqrt(3) * anchor.log_distance_spread.clamp_max(MAX_SPREAD[1])
        around = torch.tensor([-1.0, 1.0])
        return Views(
            given=torch.ones(n, dtype=torch.bool),
            azimuth_deg=(settings.azimuth_deg * around).expand(n, 2).clone(),
            elevation_deg=(elevation[:, None] + half[:, None] * around).clamp(
                -ELEVATION_LIMIT_DEG, ELEVATION_LIMIT_DEG
            ),
            roll_deg=roll_deg[:, None] + ROLL_DEG * around,
            distance_m=anchor.distance_m[:, None] * (log_half[:, None] * around).exp(),
        )
