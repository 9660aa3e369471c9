"""What an estimator knew, kept: penalties that hold fine-tuned weights, or their answers, near the old ones.

    L2-SP   1/C sum_c mean((w_c - w0_c)^2) / size_c^2        Li, Grandvalet and Davoine 2018, equation 2
    distill mean |f(x) - f0(x)| over source pictures x        Hinton, Vinyals and Dean 2015; Li and Hoiem 2018

L2-SP runs over all C output channels of all parameters, relative to each channel's size (see relative_adam), so that
one weight serves networks with folded BatchNorm too. Both refer to the weights that the fine-tuning starts from, which
a resumed run has again, so nothing of them needs saving.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from posegen.body.joint_sets import joint_set
from posegen.errors import ConfigError
from posegen.finetune.relative_adam import channel_sizes
from posegen.scene import Prediction

KINDS = ("none", "l2sp", "distill")


class StartingPoint:
    """L2-SP's penalty on a module's distance from the weights that it has now."""

    def __init__(self, module: nn.Module) -> None:
        self._start: list[
            tuple[Tensor, Tensor, Tensor]
        ] = []  # parameter, its start, 1 / (size^2 * entries of a channel)
        self._channels = 0
        for parameter in module.parameters():
            if not parameter.requires_grad:
                continue
            size = channel_sizes(parameter)
            entries = parameter.numel() // size.numel()
            self._channels += size.numel()
            self._start.append((parameter, parameter.detach().clone(), 1 / (size.square() * entries)))

    def __call__(self) -> Tensor:
        """The mean over channels of the squared change relative to the channel's size, with gradient."""
        parts = [((parameter - start).square() * scale).sum() for parameter, start, scale in self._start]
        return torch.stack(parts).sum() / self._channels


class OldAnswers:
    """Distillation: a frozen copy of the estimator answers, and the joints of the new one are held to that."""

    def __init__(self, estimator: nn.Module) -> None:
        self.old: Any = copy.deepcopy(estimator).requires_grad_(False).eval()

    def __call__(self, prediction: Prediction, images: Tensor) -> Tensor:
        """Mean distance (m) of the joints from the old ones' on the same images (B,3,S,S), both about the same root."""
        with torch.no_grad():
            old = self.old(images)
        names = joint_set(prediction.joint_set)
        return (names.centred(prediction.joints) - names.centred(old.joints)).norm(dim=-1).mean()


def check_keep(kind: str, source_rows: int) -> None:
    """Raises ConfigError for an unknown kind, and for distillation without source rows."""
    if kind not in KINDS:
        raise ConfigError(f"unknown way to keep what it knew: {kind!r}", where="finetune.keep", choices=KINDS)
    if kind == "distill" and not source_rows:
        raise ConfigError(
            "distillation needs source rows in the batch",
            where="finetune.keep",
            next_command="finetune.source_share=0.5, or finetune.keep=l2sp",
        )
