"""The error of a prediction on an image whose truth is known, as a differentiable number."""

from __future__ import annotations

import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24, JointSet, comparable, joint_set
from posegen.errors import ConfigError
from posegen.feedback.config import ERRORS
from posegen.scene import Prediction

MIN_SHARED = 6  # joints


def similarity_align(source: Tensor, target: Tensor) -> Tensor:
    """Aligns points to others by rotation, scale and translation (Procrustes), gradient through the points only.

    The rotation is found under no_grad: at the optimum the error does not change with it to first order (envelope
    theorem), so the gradient is exact without differentiating the singular value decomposition, which is unstable
    when singular values meet.

    Args:
        source, target: (B,J,3).

    Returns:
        the aligned source (B,J,3), differentiable in source and target.
    """
    mu_s, mu_t = source.mean(1, keepdim=True), target.mean(1, keepdim=True)
    s, t = source - mu_s, target - mu_t
    with torch.no_grad():
        u, _, vh = torch.linalg.svd(t.transpose(1, 2).double() @ s.double())
        sign = torch.ones(len(s), 3, dtype=torch.float64, device=s.device)
        sign[:, 2] = torch.det(u @ vh).sign()
        rotation = ((u * sign[:, None]) @ vh).to(s.dtype)
    turned = s @ rotation.transpose(1, 2)
    with torch.no_grad():
        scale = (turned * t).sum((1, 2), keepdim=True) / turned.square().sum((1, 2), keepdim=True).clamp_min(1e-12)
    return scale * turned + mu_t


def distance_m(predicted: Tensor, true: Tensor, kind: str = "mpjpe") -> Tensor:
    """Mean distance (B,) of points (B,C,3) from their true places, both about one root, or after Procrustes alignment.

    Args:
        kind: "mpjpe" as they are, or "pa_mpjpe" aligned.
    """
    if kind not in ERRORS:
        raise ConfigError(f"unknown error {kind!r}", where="feedback.error", choices=ERRORS)
    if kind == "pa_mpjpe":
        predicted = similarity_align(predicted, true)
    return ((predicted - true).square().sum(-1) + 1e-12).sqrt().mean(-1)


def image_error_m(prediction: Prediction, joints_cam_m: Tensor, kind: str = "mpjpe") -> Tensor:
    """Mean joint error of each image.

    Args:
        prediction: of B images, any named joint set.
        joints_cam_m: (B,24,3) true SMPL joints in the camera frame.
        kind: "mpjpe" centred on the root, or "pa_mpjpe" after Procrustes alignment.

    Returns:
        (B,) metres, differentiable in the prediction and in the truth.
    """
    predicted, true = comparable(prediction.joints, joint_set(prediction.joint_set), joints_cam_m, SMPL24)
    return distance_m(predicted, true, kind)


def shared_error_m(prediction: Prediction, joints_cam_m: Tensor, others: tuple[str, ...], kind: str) -> Tensor:
    """The error (B,) of the joints that a prediction shares with other joint sets, about the middle of the hips.

    So that errors of estimators with other joints are compared on the same ones.

    Args:
        others: names of joint sets.
    """
    names = joint_set(prediction.joint_set)
    kept = [
        joint for joint in SMPL24.joints
        if joint in names.joints and all(joint in joint_set(other).joints for other in others)
    ]  # fmt: skip
    if len(kept) < MIN_SHARED or not {"left_hip", "right_hip"} <= set(kept):
        raise ConfigError(
            f"estimators of {', '.join((names.name, *others))} share too few joints to be compared: "
            f"{', '.join(kept) or 'none'}", where="feedback.teachers",
        )  # fmt: skip
    shared = JointSet("shared", tuple(kept), ("left_hip", "right_hip"))
    predicted, true = comparable(
        prediction.joints[:, [names.index(joint) for joint in kept]], shared,
        joints_cam_m[:, [SMPL24.index(joint) for joint in kept]], shared,
    )  # fmt: skip
    return distance_m(predicted, true, kind)
