"""Agreement: samples whose gradient points where the target's own 2-D reprojection loss goes down.

A small step on the sample x changes the weights by -M grad e(x), with M the squares of the channels' sizes (steps
relative to the weights, as in posegen.finetune.relative_adam), and so the target's loss L by

    -r(x) |.|,   r(x) = <grad e(x), delta>,   delta = M grad L / |M^(1/2) grad L|

to first order: what has a large r helps on the target. No gradient of a single sample is ever formed. r is the
derivative of the sample's error along delta, taken by central differences,

    r(x) = (e(x; w + h delta) - e(x; w - h delta)) / 2 h,

two forward passes for a whole batch, and it has a gradient to the image as e has. L is taken once, on pictures of the
target with keypoints. `part=last` compares the weights of the last quarter of the network's tensors alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from posegen.body.joint_sets import joint_set
from posegen.errors import ConfigError
from posegen.estimator.preprocess import to_float
from posegen.estimator.weak_labels import WeakRows, reprojection_loss
from posegen.feedback.config import FeedbackConfig
from posegen.feedback.errors3d import image_error_m
from posegen.feedback.signals import (
    REGISTRY,
    Sample,
    Standardised,
    Surroundings,
    need_weights,
)
from posegen.finetune.relative_adam import sizes_of

CHUNK = 32


def compared(estimator: nn.Module, part: str) -> dict[str, nn.Parameter]:
    """The weights whose gradients are compared: all, or those of the last quarter of the tensors."""
    named = dict(estimator.named_parameters())
    kept = list(named) if part == "all" else list(named)[-max(2, len(named) // 4) :]
    return {name: named[name] for name in kept}


def target_direction(estimator: nn.Module, rows: WeakRows, part: str) -> dict[str, Tensor]:
    """delta of the module's formula by name of the weight; its size relative to the weights is 1."""
    weights = compared(estimator, part)
    before = {name: value.requires_grad for name, value in estimator.named_parameters()}
    device = next(estimator.parameters()).device
    names = joint_set(rows.joint_set)
    try:
        for value in weights.values():
            value.requires_grad_(True)
        gradient = {name: torch.zeros_like(value) for name, value in weights.items()}
        with torch.enable_grad():
            for start in range(0, len(rows), CHUNK):
                chunk = slice(start, start + CHUNK)
                images, keypoints = rows.images[chunk].to(device), rows.keypoints[chunk].to(device)
                prediction = estimator(to_float(images) if images.dtype == torch.uint8 else images)
                loss = reprojection_loss(prediction, keypoints, names) * len(images) / len(rows)
                parts = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
                for name, part_of in zip(weights, parts, strict=True):
                    if part_of is not None:
                        gradient[name] += part_of
    finally:
        for name, value in estimator.named_parameters():
            value.requires_grad_(before[name])
    sizes = sizes_of(weights)
    length = torch.stack([(sizes[name] * value).square().sum() for name, value in gradient.items()]).sum().sqrt()
    if not torch.isfinite(length) or length <= 0:
        raise ConfigError(
            "the target's reprojection loss has no gradient: no keypoint of its pictures is seen", where="target",
            next_command="lower target.min_confidence, or another feedback.signal",
        )  # fmt: skip
    return {name: (sizes[name].square() * value / length).detach() for name, value in gradient.items()}


@REGISTRY.register("agreement")
class AgreementSignal(Standardised):
    """See the module's formula; standardised over the proposal."""

    def __init__(self, config: FeedbackConfig, around: Surroundings) -> None:
        super().__init__()
        need_weights(around.estimator, "agreement")
        if around.weak is None or not len(around.weak):
            raise ConfigError(
                "agreement is with the target's 2-D loss, which needs pictures of the target with keypoints",
                where="feedback.signal", next_command="target.images=FOLDER target.keypoints=FILE",
            )  # fmt: skip
        self.estimator, self.step = around.estimator, config.step
        self.direction: Mapping[str, Tensor] = target_direction(around.estimator, around.weak, config.part)
        self._weights: dict[str, Any] = dict(around.estimator.named_parameters())

    def raw(self, sample: Sample) -> Tensor:
        there, back = (self._error(sample, sign * self.step) for sign in (1.0, -1.0))
        return (there - back) / (2 * self.step)

    def _error(self, sample: Sample, step: float) -> Tensor:
        moved = {name: self._weights[name].detach() + step * delta for name, delta in self.direction.items()}
        prediction = torch.func.functional_call(self.estimator, moved, (sample.images,))
        return image_error_m(prediction, sample.joints_cam_m, sample.kind)
