"""Adam with steps relative to the size of what they change, for networks whose channels differ by orders of magnitude.

    d = m_hat / (sqrt(v_hat) + eps)                                  Kingma and Ba 2015, algorithm 1
    w_c <- w_c - lr * rms(w_c at the start) * d_c - lr * decay * w_c

for each output channel c of a weight. Where BatchNorm is folded into the weights, one absolute rate destroys small
channels before it has moved the large ones. A step relative to the parameters' root mean square is Adafactor's (Shazeer
and Stern 2018, section 8), there of a whole tensor and of its present values; the size at the start is fixed, so that a
channel cannot run away by growing. The decay is decoupled (Loshchilov and Hutter 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

SMALLEST = 1e-4  # of the tensor's largest channel: a channel of zeros still moves


def channel_sizes(parameter: Tensor) -> Tensor:
    """The root mean square of each output channel, shaped to multiply the parameter.

    Weights have their output channels first. Biases and BatchNorm's scales and shifts are one channel: a single number
    near zero says nothing of the size of a step. A tensor of zeros has no size of its own; its steps are Adam's.
    """
    value = parameter.detach()
    if value.ndim < 2:
        sizes = value.square().mean().sqrt().reshape([1] * value.ndim)
    else:
        sizes = value.flatten(1).square().mean(1).sqrt().reshape(-1, *[1] * (value.ndim - 1))
    largest = sizes.max()
    return sizes.clamp_min(SMALLEST * largest) if largest > 0 else torch.ones_like(sizes)


class RelativeAdam(torch.optim.Optimizer):
    """See the module's equation.

    Args:
        parameters: what to train; their values at the first step are the start.
        lr: share of a channel's size that a step changes it by, at most about.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 3e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step; the closure, if any, computes the loss anew."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)
        return loss

    def _move(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
            state["size"] = channel_sizes(parameter)
        state["step"] += 1
        mean, square, (b1, b2) = state["mean"], state["square"], group["betas"]
        mean.lerp_(parameter.grad, 1 - b1)
        square.mul_(b2).addcmul_(parameter.grad, parameter.grad, value=1 - b2)
        spread = (square / (1 - b2 ** state["step"])).sqrt_().add_(group["eps"])
        direction = (mean / (1 - b1 ** state["step"])).div_(spread)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(direction.mul_(state["size"]), alpha=group["lr"])
