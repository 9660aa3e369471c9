"""Weak labels: what the target's 2-D keypoints teach an estimator, without any 3-D.

Dimensions: B pictures, K keypoints, C joints in common.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24, JointSet, comparable, joint_set
from posegen.errors import DataError
from posegen.estimator.labels import weak_projection
from posegen.scene import Prediction, TensorRecord

OUTLIER = 0.6  # in crop units of -1..1: errors beyond count less and less (Geman and McClure 1985)
MIN_COMMON = 6
NEAR_M = 0.1  # a lifted person this much further from the prediction than another counts e times less


@dataclass(frozen=True)
class WeakRows(TensorRecord):
    """Crops of the target's people with 2-D keypoints: all that is known of them, and who they may be by lifting."""

    images: Tensor  # (N,3,S,S) uint8, or float in [0,1]
    keypoints: Tensor  # (N,K,3) x, y in crop units (-1..1), confidence; a confidence of 0 is a joint without a place
    joint_set: str
    lifted: Tensor | None = None  # (N,H,24,3) m, the crop's camera axes: joints of H people each that fit
    weight: Tensor | None = None  # (N,H) of these, sums to 1

    def __len__(self) -> int:
        return len(self.images)


def fitted_projection(joints: Tensor, keypoints: Tensor, weight: Tensor) -> Tensor:
    """Joints (B,C,3) m before the weak-perspective camera that fits best: (B,C,2) in the keypoints' units.

    Scale (kept positive) and shift are the weighted least squares of s x + t to the keypoints (B,C,2); they are
    differentiated too, so that the loss does not depend on the person's size and place.
    """
    share = (weight / weight.sum(1, keepdim=True).clamp_min(1e-6))[..., None]
    flat = joints[..., :2]
    mean, mean_k = (share * flat).sum(1, keepdim=True), (share * keypoints).sum(1, keepdim=True)
    x, k = flat - mean, keypoints - mean_k
    scale = (share * x * k).sum((1, 2)) / (share * x * x).sum((1, 2)).clamp_min(1e-6)
    return scale.clamp_min(1e-3)[:, None, None] * x + mean_k


def reprojection_error(prediction: Prediction, keypoints: Tensor, names: JointSet) -> Tensor:
    """How far (B,) an estimator's joints are from keypoints, mean over joints by confidence, crop units.

    The estimator's own camera is used where it has one, else the best scale and shift. Pictures without confident
    keypoints have error 0.

    Args:
        prediction: of B crops.
        keypoints: (B,K,3) x, y in crop units (-1..1 from the left and top side to the right and bottom), confidence.
        names: the keypoints' joint set.
    """
    distance, weight = _distances(prediction, keypoints, names)
    return (distance * weight).sum(1) / weight.sum(1).clamp_min(1e-6)


def reprojection_loss(prediction: Prediction, keypoints: Tensor, names: JointSet) -> Tensor:
    """The mean over pictures of the robust, confidence-weighted squared distance; see reprojection_error."""
    distance, weight = _distances(prediction, keypoints, names)
    square = distance.square()
    robust = square / (1 + square / OUTLIER**2)
    each = (robust * weight).sum(1) / weight.sum(1).clamp_min(1e-6)
    told = (weight.sum(1) > 0).to(each)
    return (each * told).sum() / told.sum().clamp_min(1)


def lifted_loss(prediction: Prediction, rows: WeakRows) -> Tensor:
    """The mean distance (m) of joints from the lifted people that fit a picture, those nearest to the prediction first.

    Exemplars fitted to 2-D keypoints teach 3-D joints (Kolotouros et al. 2019; Joo et al. 2021). Keypoints leave open
    what is in front, so a picture has several: each counts by its weight and by how near the prediction is to it (the
    posterior of a mixture, which is not differentiated). Pictures without keypoints teach nothing.

    Args:
        prediction: of B crops, any joint set that shares joints with SMPL.
        rows: of the same crops, with `lifted` and `weight`.
    """
    assert rows.lifted is not None
    assert rows.weight is not None
    own = joint_set(prediction.joint_set)
    joints, lifted = comparable(prediction.joints[:, None], own, rows.lifted, SMPL24)
    distance = (joints - lifted).norm(dim=-1).mean(-1)
    log_share = rows.weight.clamp_min(1e-12).log() - distance.detach() / NEAR_M
    each = (torch.softmax(log_share, 1) * distance).sum(1)
    told = (rows.keypoints[..., 2] > 0).any(1).to(each)
    return (each * told).sum() / told.sum().clamp_min(1)


def reprojected(prediction: Prediction, keypoints: Tensor, names: JointSet) -> tuple[Tensor, list[int]]:
    """Where an estimator sees the joints that keypoints (B,K,3) tell: (B,C,2) crop units, and which of the K they are.

    Raises DataError where the two have too few joints in common.
    """
    own = joint_set(prediction.joint_set)
    in_keypoints, in_own = names.common(own)
    if len(in_own) < MIN_COMMON:
        raise DataError(
            f"keypoints of {names.name} and an estimator of {own.name} share {len(in_own)} joints, too few to teach",
            where="target.joint_set", choices=own.joints,
        )  # fmt: skip
    if keypoints.shape != (len(prediction), len(names), 3):
        raise DataError(
            f"keypoints {tuple(keypoints.shape)} for {len(prediction)} pictures, {len(names)} joints of {names.name}",
            where="target.joint_set",
        )
    joints = prediction.joints[:, in_own]
    if prediction.camera is not None:
        return weak_projection(joints, prediction.camera), in_keypoints
    points, weight = _seen(keypoints[:, in_keypoints])
    return fitted_projection(joints, points, weight), in_keypoints


def _seen(keypoints: Tensor) -> tuple[Tensor, Tensor]:
    """Places (B,C,2), 0 where unknown, and weights (B,C) of keypoints (B,C,3)."""
    weight = torch.where(torch.isfinite(keypoints).all(-1), keypoints[..., 2].clamp(0, 1), 0.0)
    return torch.where(weight[..., None] > 0, keypoints[..., :2], 0.0), weight


def _distances(prediction: Prediction, keypoints: Tensor, names: JointSet) -> tuple[Tensor, Tensor]:
    projected, in_keypoints = reprojected(prediction, keypoints, names)
    points, weight = _seen(keypoints[:, in_keypoints])
    return ((projected - points).square().sum(-1) + 1e-12).sqrt(), weight
