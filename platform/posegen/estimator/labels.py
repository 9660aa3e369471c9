"""What an HMR-style estimator is taught, and the loss that teaches it.

Dimensions: B batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.errors import ConfigError
from posegen.scene import Prediction, TensorRecord


@dataclass(frozen=True)
class Labels(TensorRecord):
    """Labels of images in the camera frame (OpenCV axes)."""

    rotations: Tensor  # (B,24,3,3), global orient in the camera frame
    betas: Tensor  # (B,10)
    joints: Tensor  # (B,24,3) m, pelvis at the origin
    joints_crop: Tensor  # (B,24,2) in crop units -1..1

    def __len__(self) -> int:
        return len(self.rotations)


def follow_crop(labels: Labels, zoom: Tensor, shift: Tensor) -> Labels:
    """Labels of images whose crop was jittered (see augment.crop_jitter): only the projected joints move.

    Args:
        zoom: (B,); shift: (B,2) in units of the side.
    """
    moved = (labels.joints_crop - 2 * shift[:, None]) * zoom[:, None, None]
    return Labels(labels.rotations, labels.betas, labels.joints, moved)


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms, of about equal size at the start of training."""

    joints: float = 10.0
    rotations: float = 1.0
    betas: float = 0.01
    joints_crop: float = 1.0


def weak_projection(joints_m: Tensor, camera: Tensor) -> Tensor:
    """HMR's weak-perspective camera: joints (B,J,3) m and camera (B,3) as s, tx, ty -> (B,J,2) in crop units.

    u = s * (x + tx), v = s * (y + ty) (SPIN train/trainer.py reads the same camera as a far perspective one).
    """
    return camera[:, None, :1] * (joints_m[..., :2] + camera[:, None, 1:])


def supervised_loss(prediction: Prediction, labels: Labels, weights: LossWeights) -> Tensor:
    """Mean over the batch of: joint distance (m), rotation matrices (Frobenius, the root counted six times), betas,
    projected joints."""
    if prediction.rotations is None or prediction.betas is None or prediction.camera is None:
        raise ConfigError("this loss needs an estimator that predicts rotations, betas and a camera")
    joints = (prediction.joints - labels.joints).norm(dim=-1).mean()
    per_joint = torch.ones(24, device=labels.joints.device)
    per_joint[0] = 6
    rotation = ((prediction.rotations - labels.rotations).square().sum((-1, -2)) * per_joint).mean()
    betas = (prediction.betas - labels.betas).square().mean()
    projected = (weak_projection(prediction.joints, prediction.camera) - labels.joints_crop).abs().mean()
    return (
        weights.joints * joints + weights.rotations * rotation + weights.betas * betas + weights.joints_crop * projected
    )
