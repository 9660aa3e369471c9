"""Runs a TFLite graph in torch, NCHW, with its weights as parameters that can be trained.

Operator semantics after TFLite's reference kernels (tensorflow/lite/kernels/internal/reference).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posegen.errors import CheckpointError
from posegen.estimator.depthwise import depthwise_conv2d, has_kernel_for
from posegen.estimator.tflite_graph import Operation, TfliteGraph

_LOWEST = -3.0e38  # padding of max pooling
_BOUNDS = {1: (0.0, math.nan), 3: (0.0, 6.0)}  # of relu and relu6, as depthwise_conv2d takes them


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """TensorFlow's SAME: pixels before and after, the odd one after."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def resize_bilinear(x: Tensor, size: tuple[int, int], align_corners: bool, half_pixel: bool) -> Tensor:
    """TFLite's three conventions; with neither flag the source position is index * scale (TensorFlow 1)."""
    if align_corners or half_pixel:
        return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)
    for dim, length in ((2, size[0]), (3, size[1])):
        position = torch.arange(length, device=x.device) * (x.shape[dim] / length)
        low = position.long()
        high = (low + 1).clamp(max=x.shape[dim] - 1)
        weight = (position - low).to(x.dtype).view(-1, *([1] * (3 - dim)))
        x = x.index_select(dim, low) * (1 - weight) + x.index_select(dim, high) * weight
    return x


def activate(x: Tensor, code: int) -> Tensor:
    """ActivationFunctionType of schema.fbs: none, relu, relu_n1_to_1, relu6."""
    if code == 0:
        return x
    if code == 1:
        return F.relu(x)
    if code == 2:
        return x.clamp(-1, 1)
    if code == 3:
        return F.relu6(x)
    raise CheckpointError(f"fused activation {code} is not supported", choices=(0, 1, 2, 3))


class TfliteModule(nn.Module):
    """The part of a graph that some outputs need.

    Args:
        graph: as read from a file.
        outputs: tensor numbers to compute. Constants that only other outputs need are kept as buffers, so that a
            state dict is complete and every parameter gets a gradient.
        fixed_above_px: constants of operations that make larger maps than this are buffers, too: what a network sees
            first (edges) stays as it is, which saves nearly half of a training step. None fixes nothing.
    """

    def __init__(self, graph: TfliteGraph, outputs: Sequence[int], fixed_above_px: int | None = None) -> None:
        super().__init__()
        self.outputs = tuple(outputs)
        self.input = graph.inputs[0]
        needed = set(self.outputs)
        program = []
        for operation in reversed(graph.operations):
            if operation.output in needed:
                program.append(operation)
                needed.update(operation.inputs)
        self.program = tuple(reversed(program))
        self.shapes = graph.shapes
        self._names: dict[tuple[int, int], str] = {}  # (operation, position among its inputs) -> attribute
        for operation in graph.operations:
            learned = operation.output in needed and not _is_larger(graph.shapes[operation.output], fixed_above_px)
            for position, number in enumerate(operation.inputs):
                value = graph.constants.get(number)
                if value is None or value.dtype != np.float32:
                    continue
                name = f"{operation.kind.lower()}_{operation.index}_{('input', 'weight', 'bias')[position]}"
                self._names[operation.index, position] = name
                tensor = torch.from_numpy(_to_torch_layout(value, operation.kind, position))
                if learned:
                    self.register_parameter(name, nn.Parameter(tensor))
                else:
                    self.register_buffer(name, tensor)
        self._last_use = {n: i for i, operation in enumerate(self.program) for n in operation.inputs}

    def constants(self, graph: TfliteGraph) -> dict[int, np.ndarray]:
        """The current weights in TFLite's layout, by tensor number: for TfliteGraph.written_with."""
        changed = {}
        for operation in graph.operations:
            for position, number in enumerate(operation.inputs):
                name = self._names.get((operation.index, position))
                if name is not None:
                    value = getattr(self, name).detach().cpu().float().numpy()
                    changed[number] = _to_tflite_layout(value, operation.kind, position)
        return changed

    def forward(self, x: Tensor) -> list[Tensor]:
        """x (B,3,H,W) -> the outputs: (B,C,H,W), or (B,N) where the graph reshapes to that."""
        tensors = {self.input: x}
        for i, operation in enumerate(self.program):
            tensors[operation.output] = self._run(operation, tensors)
            if x.is_meta:
                self._compare(operation, tensors[operation.output])
            for number in operation.inputs:  # activations are large: let go of them early
                if self._last_use[number] == i and number not in self.outputs:
                    tensors.pop(number, None)
        return [tensors[number] for number in self.outputs]

    def check(self) -> None:
        """Follows the shapes through the graph, without numbers. Raises CheckpointError where they do not fit."""
        try:
            without = {name: value.to("meta") for name, value in (*self.named_parameters(), *self.named_buffers())}
            _, height, width, channels = self.shapes[self.input]
            x = torch.empty(1, channels, height, width, device="meta")
            torch.func.functional_call(self, without, (x,))
        except (RuntimeError, LookupError, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise CheckpointError(f"the operators of the TFLite file do not fit each other: {reason}") from error

    def _compare(self, operation: Operation, made: Tensor) -> None:
        shape = tuple(made.permute(0, 2, 3, 1).shape) if made.ndim == 4 else tuple(made.shape)
        if shape != self.shapes[operation.output]:
            raise CheckpointError(
                f"operator {operation.index} ({operation.kind}) gives {shape}, "
                f"the TFLite file says {self.shapes[operation.output]}"
            )

    def _value(self, operation: Operation, position: int, tensors: dict[int, Tensor]) -> Tensor:
        name = self._names.get((operation.index, position))
        return getattr(self, name) if name is not None else tensors[operation.inputs[position]]

    def _run(self, operation: Operation, tensors: dict[int, Tensor]) -> Tensor:
        kind, given = operation.kind, operation.attributes
        x = self._value(operation, 0, tensors)
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            weight, bias = (self._value(operation, p, tensors) for p in (1, 2))
            groups = x.shape[1] if kind == "DEPTHWISE_CONV_2D" else 1
            rows, columns = (
                same_padding(x.shape[2 + d], weight.shape[2 + d], given["stride"][d], given["dilation"][d])
                if given["same"]
                else (0, 0)
                for d in (0, 1)
            )
            if has_kernel_for(x, weight, bias, given["dilation"]):
                bounds = _BOUNDS.get(given["activation"])
                out = depthwise_conv2d(x, weight, bias, given["stride"], (rows, columns), bounds)
                return out if bounds else activate(out, given["activation"])
            if rows[0] != rows[1] or columns[0] != columns[1]:
                x = F.pad(x, (*columns, *rows))
                rows = columns = (0, 0)
            around = (rows[0], columns[0])
            return activate(
                F.conv2d(x, weight, bias, given["stride"], around, given["dilation"], groups), given["activation"]
            )
        if kind == "ADD":
            return activate(x + self._value(operation, 1, tensors), given["activation"])
        if kind == "PAD":
            _, rows, columns, channels = given["padding"]
            return F.pad(x, (*columns, *rows, *channels))
        if kind == "RESIZE_BILINEAR":
            return resize_bilinear(x, **given)
        if kind == "MAX_POOL_2D":
            if given["same"]:
                pads = [same_padding(x.shape[2 + d], given["kernel"][d], given["stride"][d]) for d in (0, 1)]
                x = F.pad(x, (*pads[1], *pads[0]), value=_LOWEST)
            return F.max_pool2d(x, given["kernel"], given["stride"])
        if kind == "RESHAPE":
            return x.permute(0, 2, 3, 1).reshape(len(x), *self.shapes[operation.output][1:])
        return torch.sigmoid(x)


def _is_larger(shape: tuple[int, ...], side_px: int | None) -> bool:
    return side_px is not None and len(shape) == 4 and shape[1] > side_px


def _to_torch_layout(value: np.ndarray, kind: str, position: int) -> np.ndarray:
    """Filters to (out, in / groups, height, width), additive maps to NCHW."""
    if position == 1 and kind == "DEPTHWISE_CONV_2D":
        value = value.transpose(3, 0, 1, 2)
    elif (position == 1 and kind == "CONV_2D") or (kind == "ADD" and value.ndim == 4):
        value = value.transpose(0, 3, 1, 2)
    return value.copy(order="C")  # never a view: training must not change the graph's constants


def _to_tflite_layout(value: np.ndarray, kind: str, position: int) -> np.ndarray:
    """The inverse of _to_torch_layout."""
    if position == 1 and kind == "DEPTHWISE_CONV_2D":
        return value.transpose(1, 2, 3, 0)
    if (position == 1 and kind == "CONV_2D") or (kind == "ADD" and value.ndim == 4):
        return value.transpose(0, 2, 3, 1)
    return value
