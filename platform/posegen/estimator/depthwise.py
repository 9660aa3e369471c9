"""Depthwise convolutions that are trained on the CPU: a kernel of our own, and the choice between it and torch's.

oneDNN's derivatives of depthwise convolutions take several times as long without AVX-512 as their arithmetic and memory
need: two fifths of a BlazePose's training step went into such convolutions.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from posegen.compiled import NativeUnavailable, load_library, say_once

SOURCE = Path(__file__).with_name("depthwise.cpp")
MAX_KERNEL = 7  # as in depthwise.cpp
Pads = tuple[tuple[int, int], tuple[int, int]]  # pixels above and below, left and right

_SIZES = ("batch", "channels", "height", "width", "out_height", "out_width", "kernel_height", "kernel_width",
          "stride_y", "stride_x", "top", "left", "threads")  # fmt: skip
_POINTERS = ("x", "weight", "bias", "out", "grad_out", "grad_x", "grad_weight", "grad_bias")


class Problem(ctypes.Structure):
    """One call of the kernel; mirrors `Problem` in depthwise.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.c_float) for name in ("low", "high")),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    ]


@lru_cache(maxsize=1)
def kernel() -> ctypes.CDLL | None:
    """The compiled kernel; None, and why is logged, where it cannot be had."""
    try:
        library = load_library(SOURCE, (), Problem)
    except NativeUnavailable as reason:
        say_once(f"training with torch's depthwise convolutions, several times slower than the compiled ones: {reason}")
        return None
    for function in (library.posegen_forward, library.posegen_backward):
        function.argtypes = [ctypes.POINTER(Problem)]
        function.restype = None
    return library


def _is_plain(value: Tensor) -> bool:
    return (
        type(value) in (Tensor, nn.Parameter)
        and value.device.type == "cpu"
        and not value.is_meta
        and value.dtype == torch.float32
        and value.layout == torch.strided
    )


def has_kernel_for(x: Tensor, weight: Tensor, bias: Tensor | None = None, dilation: tuple[int, int] = (1, 1)) -> bool:
    """Whether `depthwise_conv2d` can compute this and its gradient is wanted; where not, F.conv2d serves.

    It is for plain CPU tensors in float32: not for torch.func, forward-mode differentiation, autocast or subclasses.
    """
    given = [value for value in (x, weight, bias) if value is not None]
    return (
        x.ndim == weight.ndim == 4
        and x.shape[1] == weight.shape[0]
        and weight.shape[1] == 1
        and torch.is_grad_enabled()
        and any(value.requires_grad for value in given)
        and all(_is_plain(value) for value in given)
        and max(weight.shape[2:]) <= MAX_KERNEL
        and (bias is None or bias.shape == weight.shape[:1])
        and tuple(dilation) == (1, 1)
        and not torch._C._are_functorch_transforms_active()  # torch's own Functions ask this, too
        and all(forward_ad.unpack_dual(value).tangent is None for value in given)
        and not torch.is_autocast_enabled("cpu")
        and kernel() is not None
    )


def _beside(x: Tensor) -> Tensor:
    """With its channels side by side in memory."""
    return x.contiguous(memory_format=torch.channels_last)


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu", memory_format=torch.channels_last)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], pads: Pads,
        bounds: tuple[float, float] | None,
    ) -> Tensor:  # fmt: skip
        x, weight = _beside(x), weight.contiguous()
        bias = None if bias is None else bias.contiguous()
        sides = [(x.shape[2 + d] + sum(pads[d]) - weight.shape[2 + d]) // stride[d] + 1 for d in (0, 1)]
        out = _empty(*x.shape[:2], *sides)
        low, high = bounds or (torch.nan, torch.nan)
        ctx.settings = {
            "batch": len(x), "channels": x.shape[1], "height": x.shape[2], "width": x.shape[3],
            "out_height": sides[0], "out_width": sides[1], "kernel_height": weight.shape[2],
            "kernel_width": weight.shape[3], "stride_y": stride[0], "stride_x": stride[1], "top": pads[0][0],
            "left": pads[1][0], "low": low, "high": high,
        }  # fmt: skip
        _call(False, ctx.settings, x=x, weight=weight, bias=bias, out=out)
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight, None if bounds is None else out)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, out = ctx.saved_tensors
        size = ctx.settings
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        shape = (size["batch"], size["channels"], size["height"], size["width"])
        grad_x = _empty(*shape) if of_x else None
        grad_weight = torch.empty_like(weight) if of_weight else None
        grad_bias = weight.new_empty(shape[1]) if of_bias else None
        _call(
            True, size, x=x, weight=weight, out=out, grad_out=_beside(grad_out), grad_x=grad_x,
            grad_weight=grad_weight, grad_bias=grad_bias,
        )  # fmt: skip
        return grad_x, grad_weight, grad_bias, None, None, None


def _call(backwards: bool, settings: dict[str, Any], **tensors: Tensor | None) -> None:
    pointers = {name: value.data_ptr() for name, value in tensors.items() if value is not None}
    problem = Problem(**settings, **pointers, threads=torch.get_num_threads())
    library = kernel()
    assert library is not None
    function = library.posegen_backward if backwards else library.posegen_forward
    function(ctypes.byref(problem))


def depthwise_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, int] = (1, 1),
    pads: Pads = ((0, 0), (0, 0)),
    bounds: tuple[float, float] | None = None,
) -> Tensor:
    """Convolves each channel with its own filter, as F.conv2d does with as many groups as channels.

    Differentiable once, to x, weight and bias; which numbers come out does not depend on the number of threads. Call it
    where `has_kernel_for` says so.

    Args:
        x: (B,C,H,W), best in channels_last.
        weight: (C,1,KH,KW), at most 7 x 7.
        bias: (C,).
        stride: pixels, down and to the right.
        pads: pixels of zeros (above, below), (left, right).
        bounds: clamps the outputs, whose gradient is zero at a bound, as those of relu and relu6 are; nan is no bound.

    Returns:
        (B,C,OH,OW) in channels_last.

    Raises:
        ValueError: the padded pictures are smaller than the filters.
    """
    if any(x.shape[2 + d] + sum(pads[d]) < weight.shape[2 + d] for d in (0, 1)):
        raise ValueError(f"pictures {tuple(x.shape)}, padded by {pads}, are smaller than filters {tuple(weight.shape)}")
    return _Depthwise.apply(x, weight, bias, stride, pads, bounds)
