"""What an estimator is taught, and the loss that teaches it.

Dimensions: B batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24, comparable, joint_set
from posegen.scene import Prediction, TensorRecord


@dataclass(frozen=True)
class Labels(TensorRecord):
    """Labels of images in the camera frame (OpenCV axes), as they hold for the body of the estimator to be taught."""

    rotations: Tensor  # (B,24,3,3), global orient in the camera frame
    betas: Tensor  # (B,10)
    joints: Tensor  # (B,24,3) m, pelvis at the origin
    joints_crop: Tensor  # (B,24,2) in crop units -1..1
    rotations_known: Tensor  # (B,) 1 where the rotations hold for the estimator's body, else 0
    betas_known: Tensor  # (B,) 1 where the betas are of its shape space, else 0

    def __len__(self) -> int:
        return len(self.rotations)


def follow_crop(labels: Labels, zoom: Tensor, shift: Tensor) -> Labels:
    """Labels of images whose crop was jittered (see augment.crop_jitter): only the projected joints move.

    Args:
        zoom: (B,); shift: (B,2) in units of the side.
    """
    return replace(labels, joints_crop=(labels.joints_crop - 2 * shift[:, None]) * zoom[:, None, None])


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
    projected joints.

    Joints are those that the prediction shares with SMPL by name, both sides centred on the same root. Terms that the
    prediction lacks, or that a row's labels say nothing about, are left out.
    """
    names = joint_set(prediction.joint_set)
    predicted, true = comparable(prediction.joints, names, labels.joints, SMPL24)
    loss = weights.joints * (predicted - true).norm(dim=-1).mean()
    if prediction.rotations is not None:
        per_joint = torch.ones(24, device=labels.joints.device)
        per_joint[0] = 6
        off = (prediction.rotations - labels.rotations).square().sum((-1, -2)) * per_joint
        loss = loss + weights.rotations * (off * labels.rotations_known[:, None]).mean()
    if prediction.betas is not None:
        off = (prediction.betas - labels.betas).square()
        loss = loss + weights.betas * (off * labels.betas_known[:, None]).mean()
    if prediction.camera is not None:
        in_smpl, in_predicted = SMPL24.common(names)
        projected = weak_projection(prediction.joints, prediction.camera)[:, in_predicted]
        loss = loss + weights.joints_crop * (projected - labels.joints_crop[:, in_smpl]).abs().mean()
    return loss
