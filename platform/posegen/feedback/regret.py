"""Regret: how much better a sample could be judged than it is.

    r(x) = e(x) - min_m e_m(x)

over teachers m: a bigger estimator, or an ensemble of several. What no one can judge (hidden, cut off, impossible) has
a large error but no regret; PAIRED (Dennis et al. 2020) makes environments by it. Errors are compared on the joints
that all have, so a teacher may tell joints alone, and neither it nor the estimator needs weights that can be seen.
Where a teacher offers a gradient the generator sees it too, else its error counts as a constant.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from posegen.errors import ConfigError
from posegen.estimator.crop import crop_of
from posegen.feedback.config import FeedbackConfig
from posegen.feedback.errors3d import shared_error_m
from posegen.feedback.signals import REGISTRY, Sample, Standardised, Surroundings


@REGISTRY.register("regret")
class RegretSignal(Standardised):
    """See the module's formula; standardised over the proposal."""

    def __init__(self, config: FeedbackConfig, around: Surroundings) -> None:
        super().__init__()
        if not around.teachers:
            raise ConfigError(
                "regret is measured against a teacher, and there is none", where="feedback.teachers",
                next_command='feedback=regret "feedback.teachers=[{name: blazepose}]"',
            )  # fmt: skip
        self.teachers: tuple[Any, ...] = around.teachers
        for teacher in self.teachers:
            if isinstance(teacher, nn.Module):
                teacher.requires_grad_(False).eval()

    def raw(self, sample: Sample) -> Tensor:
        names = tuple(teacher.joint_set for teacher in self.teachers)
        own = shared_error_m(sample.prediction, sample.joints_cam_m, names, sample.kind)
        return own - torch.stack([self._error(teacher, names, sample) for teacher in self.teachers]).amin(0)

    def _error(self, teacher: Any, names: tuple[str, ...], sample: Sample) -> Tensor:
        images, truth = sample.seen_by(crop_of(teacher))
        with torch.set_grad_enabled(torch.is_grad_enabled() and bool(teacher.differentiable)):
            return shared_error_m(teacher(images), truth, (sample.prediction.joint_set, *names), sample.kind)
