"""What pictures are grouped by: pose, view and look as vectors in which near means alike.

A picture and its mirror image count as the same: everything is told as if the camera stood at the person's left.

Dimensions: N pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posegen.atlas.pose_facts import Numbers, trunk_axes
from posegen.atlas.sample import Sample
from posegen.body.joint_sets import SMPL24

# How much each part weighs against the pose, in units of its own spread.
VIEW_WEIGHT, LOOK_WEIGHT = 0.9, 0.35
_LOOKS = ("distance_m", "brightness", "contrast", "hidden")


@dataclass(frozen=True)
class Features:
    """Each part is scaled to a total variance of 1 over the set."""

    pose: Numbers  # (N,75) joints in the trunk's frame in units of the trunk's length, and where up is
    view: Numbers  # (N,4) direction to the camera in the trunk's frame, elevation
    look: Numbers  # (N,4)

    def all(self) -> Numbers:
        """(N,83) the parts side by side, weighed."""
        return np.concatenate([self.pose, VIEW_WEIGHT * self.view, LOOK_WEIGHT * self.look], axis=1)


def features_of(sample: Sample) -> Features:
    joints, up = sample.joints_cam_m, sample.camera_R[:, :, 1]
    axes = trunk_axes(joints)
    centred = joints - joints[:, :1]
    placed = np.einsum("nji,nik->njk", centred, axes)
    trunk = np.linalg.norm(_middle(joints, "shoulder") - _middle(joints, "hip"), axis=-1)
    placed /= np.maximum(trunk, 1e-9)[:, None, None]
    upwards = np.einsum("ni,nik->nk", up, axes)
    towards = -joints[:, 0] / np.maximum(np.linalg.norm(joints[:, 0], axis=-1, keepdims=True), 1e-9)
    seen = np.einsum("ni,nik->nk", towards, axes)
    flipped = seen[:, 0] < 0
    placed, upwards, seen = _mirrored(placed, flipped), _turned(upwards, flipped), _turned(seen, flipped)
    elevation = (towards * up).sum(-1, keepdims=True)
    look = np.stack([sample.facts[name] for name in _LOOKS], 1)
    look[:, 0] = np.log(np.maximum(look[:, 0], 1e-3))
    pose = np.concatenate([placed.reshape(len(placed), -1), 1.5 * upwards], 1)
    return Features(
        _unit_variance(pose), _unit_variance(np.concatenate([seen, elevation], 1)),
        _unit_variance(look / np.maximum(look.std(0), 1e-9)),
    )  # fmt: skip


def _middle(joints: Numbers, name: str) -> Numbers:
    return (joints[:, SMPL24.index(f"left_{name}")] + joints[:, SMPL24.index(f"right_{name}")]) / 2


def _mirrored(placed: Numbers, rows: NDArray[np.bool_]) -> Numbers:
    other = placed[:, list(SMPL24.mirror)] * np.array([-1.0, 1.0, 1.0])
    return np.where(rows[:, None, None], other, placed)


def _turned(vectors: Numbers, rows: NDArray[np.bool_]) -> Numbers:
    return np.where(rows[:, None], vectors * np.array([-1.0, 1.0, 1.0]), vectors)


def _unit_variance(block: Numbers) -> Numbers:
    centred = block - block.mean(0)
    return centred / max(float(np.sqrt(centred.var(0).sum())), 1e-9)
