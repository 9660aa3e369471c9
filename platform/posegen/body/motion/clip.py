"""One motion as SMPL poses, y up, and the same motion at another rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from posegen.body.rotations import aa_to_matrix, matrix_to_quat, mirror_pose, quat_to_aa
from posegen.errors import DataError


@dataclass(frozen=True)
class Clip:
    """One motion.

    Args:
        name: unique in its source.
        pose: (T,24,3) axis-angle rad, float32; pose[:, 0] is global orient, y up.
        transl: (T,3) m, float32.
        fps: frames a second.
    """

    name: str
    pose: Tensor
    transl: Tensor
    fps: float

    def __len__(self) -> int:
        return len(self.pose)

    def mirrored(self) -> Clip:
        """The left-right mirror image of the motion."""
        flip = torch.tensor([-1.0, 1.0, 1.0])
        return Clip(f"{self.name}_mirrored", mirror_pose(self.pose), self.transl * flip, self.fps)


def resampled(clip: Clip, fps: float) -> Clip:
    """The same motion at another rate: spherical interpolation between frames of each joint.

    scipy's Slerp takes one joint at a time and rounds otherwise in the last digits, by which clips, and with them the
    embedded benchmarks, would be others.
    """
    if len(clip) < 2 or abs(clip.fps - fps) < 1e-6:
        return Clip(clip.name, clip.pose, clip.transl, fps if len(clip) < 2 else clip.fps)
    if fps <= 0:
        raise DataError(f"a frame rate of {fps} is not possible", where=clip.name)
    count = max(2, int(np.floor((len(clip) - 1) * fps / clip.fps + 1e-6)) + 1)
    position = torch.arange(count, dtype=torch.float64) * (clip.fps / fps)
    low = position.floor().long().clamp(0, len(clip) - 2)
    share = (position - low)[:, None, None]
    quats = matrix_to_quat(aa_to_matrix(clip.pose.double()))
    a, b = quats[low], quats[low + 1]
    cosine = (a * b).sum(-1, keepdim=True)
    b, cosine = torch.where(cosine < 0, -b, b), cosine.abs().clamp(max=1.0)
    angle = torch.arccos(cosine)
    sine = angle.sin()
    near = sine < 1e-6
    safe = torch.where(near, torch.ones_like(sine), sine)
    weight_a = torch.where(near, 1 - share, ((1 - share) * angle).sin() / safe)
    weight_b = torch.where(near, share.expand_as(angle), (share * angle).sin() / safe)
    mixed = torch.nn.functional.normalize(weight_a * a + weight_b * b, dim=-1)
    transl = torch.lerp(clip.transl[low].double(), clip.transl[low + 1].double(), share[..., 0])
    return Clip(clip.name, quat_to_aa(mixed).float(), transl.float(), fps)
