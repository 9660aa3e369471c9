"""The fused CPU kernel as a differentiable function, and the choice between it and eager torch."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from posegen.compiled import NativeUnavailable, say_once
from posegen.errors import PosegenError
from posegen.renderer.field.codes import TableCodes
from posegen.renderer.field.config import FieldConfig
from posegen.renderer.field.layout import KernelLayout
from posegen.renderer.field.march import Occupancy, pixel_boxes
from posegen.renderer.field.native import Problem, load_kernel
from posegen.renderer.field.transforms import RayTransforms


def use_fused(config: FieldConfig, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a render on this device and in this dtype goes through the fused kernel.

    The choice is logged once. Raises PosegenError if `renderer.backend=fused` cannot be had.
    """
    if config.backend == "eager":
        return False
    wanted = config.backend == "fused"
    if device.type != "cpu" or dtype != torch.float32:
        if wanted:
            raise PosegenError(
                f"renderer.backend=fused works on the CPU in float32, not on {device.type} in {dtype}",
                where="renderer.backend",
                choices=("auto", "eager"),
            )
        return False
    try:
        load_kernel()
    except NativeUnavailable as reason:
        if wanted:
            raise PosegenError(
                f"renderer.backend=fused cannot be had: {reason}", where="renderer.backend", choices=("auto", "eager")
            ) from reason
        say_once(f"rendering with eager torch, about ten times slower than the fused kernel: {reason}")
        return False
    say_once("rendering with the fused CPU kernel")
    return True


class _Record:
    """Owns what the forward pass leaves for the backward pass."""

    def __init__(self, address: int | None) -> None:
        self.address = address

    def __del__(self) -> None:
        if self.address:
            load_kernel().posegen_free(self.address)


def _problem(tensors: dict[str, Tensor], config: FieldConfig, resolution: int, height: int, width: int) -> Problem:
    """Every tensor must be contiguous and outlive the call."""
    batch, volumes = tensors["c"].shape[:2]
    problem = Problem(
        batch=batch, volumes=volumes, resolution=resolution, height=height, width=width,
        threads=torch.get_num_threads(), step=config.step_m, near=config.near_m,
        threshold=config.transmittance_threshold, table_size=tensors["table"].numel(),
    )  # fmt: skip
    for name, tensor in tensors.items():
        setattr(problem, name, tensor.data_ptr())
    return problem


class _FusedRender(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913 - autograd takes tensors one by one
        ctx: Any, M: Tensor, c: Tensor, light: Tensor, shade: Tensor, lens: Tensor, table: Tensor,
        volume: Tensor, boxes: Tensor, occupancy: Occupancy, config: FieldConfig, height: int, width: int,
        codes: TableCodes | None, layout: KernelLayout,
    ) -> Tensor:  # fmt: skip
        inputs = {"M": M, "c": c, "light": light, "shade": shade, "lens": lens, "table": table}
        tensors = {name: value.detach().contiguous() for name, value in inputs.items()}
        tensors |= {
            "volume": volume.contiguous(), "boxes": boxes, "low": occupancy.low, "high": occupancy.high,
            "occupied": layout.occupied, "out": torch.zeros(len(M), height * width, 4),
        }  # fmt: skip
        if codes is not None and not ctx.needs_input_grad[5]:
            tensors |= {"codes": codes.codes, "code_low": codes.low, "code_scale": codes.scale}
            if layout.blocks is not None:
                tensors["blocks"] = layout.blocks
        problem = _problem(tensors, config, occupancy.resolution, height, width)
        record = load_kernel().posegen_forward(ctypes.byref(problem), int(any(ctx.needs_input_grad)))
        ctx.record, ctx.config, ctx.size = _Record(record), config, (occupancy.resolution, height, width)
        out = tensors.pop("out")
        ctx.names = list(tensors)
        ctx.save_for_backward(out, *tensors.values())
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        out, *saved = ctx.saved_tensors
        tensors = dict(zip(ctx.names, saved, strict=True))
        gradients = {name: torch.zeros_like(tensors[name]) for name in ("M", "c", "light", "shade", "lens")}
        call = tensors | {f"grad_{name}": value for name, value in gradients.items()}
        call |= {"out": out, "grad_out": grad_out.contiguous()}
        threads = max(1, min(torch.get_num_threads(), len(out)))
        grad_table = None
        if ctx.needs_input_grad[5]:
            grad_table = torch.zeros(threads, *tensors["table"].shape)
            call["grad_table"] = grad_table
        problem = _problem(call, ctx.config, *ctx.size)
        problem.threads = threads
        load_kernel().posegen_backward(ctypes.byref(problem), ctx.record.address)
        if grad_table is not None:
            grad_table = grad_table[0] if threads == 1 else grad_table.sum(0)
        return (*gradients.values(), grad_table, *[None] * 8)


def render_fused(
    transforms: RayTransforms,
    table: Tensor,
    occupancy: Occupancy,
    config: FieldConfig,
    layout: KernelLayout,
    codes: TableCodes | None = None,
) -> Tensor:
    """Rays to premultiplied rgb and alpha (B,H*W,4): float32 on the CPU, differentiable as the eager path is.

    `codes`, if given, must decode to the table; they are read instead of it unless the table needs a gradient.
    `layout` is that of the occupancy and the codes.
    """
    boxes = pixel_boxes(transforms, occupancy, config.near_m)
    return _FusedRender.apply(
        transforms.M.flatten(2), transforms.c, transforms.light, transforms.shade, transforms.lens, table,
        transforms.volume, boxes, occupancy, config, transforms.height, transforms.width, codes, layout,
    )  # fmt: skip
