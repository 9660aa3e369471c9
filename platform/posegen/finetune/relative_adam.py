"""Adam with steps relative to the size of what they change, for networks whose channels differ by orders of magnitude.

    d = m_hat / (sqrt(v_hat) + eps)                                  Kingma and Ba 2015, algorithm 1
    w_c <- w_c - lr * size_c * d_c - lr * decay * w_c

for each output channel c of a weight; its size is the root mean square of its weights at the start. Where BatchNorm is
folded into the weights, one absolute rate destroys small channels before it has moved the large ones. A step relative
to the parameters' root mean square is Adafactor's (Shazeer and Stern 2018, section 8), there of a whole tensor and of
its present values; the size at the start is fixed, so that a channel cannot run away by growing. The decay is decoupled
(Loshchilov and Hutter 2019).

A bias has the size of what it is added to: the norm of its channel's weights, which is how far the output goes with
inputs of size one. Its own value says nothing of that: steps of the root mean square of BlazePose's biases are, in
many channels, tens to thousands of the standard deviations of the output, and a training blows up now and then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

SMALLEST = 1e-4  # of the tensor's largest channel: a channel of zeros still moves


def channel_sizes(parameter: Tensor) -> Tensor:
    """The root mean square of each output channel, shaped to multiply the parameter.

    Weights have their output channels first. BatchNorm's scales and shifts, and biases of no known weight, are one
    channel: a single number near zero says nothing of the size of a step. A tensor of zeros has no size of its own; its
    steps are Adam's.
    """
    value = parameter.detach()
    if value.ndim < 2:
        sizes = value.square().mean().sqrt().reshape([1] * value.ndim)
    else:
        sizes = value.flatten(1).square().mean(1).sqrt().reshape(-1, *[1] * (value.ndim - 1))
    largest = sizes.max()
    return sizes.clamp_min(SMALLEST * largest) if largest > 0 else torch.ones_like(sizes)


def bias_sizes(weight: Tensor) -> Tensor:
    """The norm (C,) of each output channel of a weight: the size of the bias that is added to it."""
    return channel_sizes(weight).flatten() * math.sqrt(weight[0].numel())


def sizes_of(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The size of each parameter by name, shaped to multiply it: `bias_sizes` beside a weight, else `channel_sizes`."""
    beside = {name: _weight_of(name, parameter, named) for name, parameter in named.items()}
    return {
        name: channel_sizes(named[name]) if weight is None else bias_sizes(weight) for name, weight in beside.items()
    }


class RelativeAdam(torch.optim.Optimizer):
    """See the module's equation.

    Args:
        parameters: what to train, with names (`named_parameters()`), by which a bias finds its weight; their values
            at the first step are the start.
        lr: share of a channel's size that a step changes it by, at most about.

    Raises:
        TypeError: parameters without names.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, Tensor]],
        lr: float = 3e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        named = list(parameters)
        if not all(isinstance(given, tuple) for given in named):
            raise TypeError("relative Adam takes named parameters, such as module.named_parameters()")
        super().__init__(named, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step; the closure, if any, computes the loss anew."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            named = dict(zip(group["param_names"], group["params"], strict=True))
            moved = {name: parameter for name, parameter in named.items() if parameter.grad is not None}
            if not all(self.state[parameter] for parameter in moved.values()):
                self._begin(moved, sizes_of(named))
            for parameter in moved.values():
                self._move(parameter, group)
        return loss

    def _begin(self, moved: Mapping[str, Tensor], sizes: Mapping[str, Tensor]) -> None:
        for name, parameter in moved.items():
            if not self.state[parameter]:
                zeros = {key: torch.zeros_like(parameter) for key in ("mean", "square")}
                self.state[parameter] = {"step": 0, "size": sizes[name], **zeros}

    def _move(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        state["step"] += 1
        mean, square, (b1, b2) = state["mean"], state["square"], group["betas"]
        mean.lerp_(parameter.grad, 1 - b1)
        square.mul_(b2).addcmul_(parameter.grad, parameter.grad, value=1 - b2)
        spread = (square / (1 - b2 ** state["step"])).sqrt_().add_(group["eps"])
        direction = (mean / (1 - b1 ** state["step"])).div_(spread)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(direction.mul_(state["size"]), alpha=group["lr"])


def _weight_of(name: str, parameter: Tensor, named: Mapping[str, Tensor]) -> Tensor | None:
    """The weight whose output a bias is added to; None for all that is no such bias, or where it has no size: zeros."""
    if not name.endswith("bias"):
        return None
    weight = named.get(name.removesuffix("bias") + "weight")
    fits = weight is not None and weight.ndim > 1 and parameter.shape == weight.shape[:1] and bool(weight.any())
    return weight if fits else None
