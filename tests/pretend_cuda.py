"""A device that is not there: code runs as on a GPU and computes on the CPU.

Within `PretendCuda()` a tensor that is moved to, or made on, "cuda" says that it is there, and whatever a GPU would
refuse is refused: operands on two devices, a CPU generator for numbers on the GPU, `numpy()` without `cpu()`. So the
paths for GPUs are run, and what they compute is compared with the CPU's, on machines without one. What it cannot show:
kernels, memory and speed.

The rules of mixing are torch's: a CPU tensor without dimensions goes with any device, CPU indices may index a CUDA
tensor, and `copy_` crosses devices. Gradients that autograd hands out are on their tensor's device.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")

# Methods of tensors that cross devices, or that only look at their arguments.
CROSSING = {"copy_", "_has_compatible_shallow_copy_type"}
TO_HOST = {"numpy", "__array__"}


class DeviceMismatch(RuntimeError):
    """What a GPU would have refused."""


def _is_cuda(device: Any) -> bool:
    return isinstance(device, str | torch.device) and torch.device(device).type == "cuda"


class CudaGenerator(torch.Generator):
    """A generator on the GPU that is not there."""

    device = CUDA  # type: ignore[assignment]


class PretendCuda(TorchFunctionMode):
    """See the module. One at a time: `with PretendCuda(): loop = Loop(config, device="cuda")`."""

    def __init__(self) -> None:
        super().__init__()
        self.there: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.moves = 0  # tensors that were moved to the GPU: a test's proof that it was used at all

    def __enter__(self) -> PretendCuda:
        self._new = nn.Parameter.__new__

        def new_parameter(cls: Any, data: Any = None, requires_grad: bool = True) -> Any:
            parameter = self._new(cls, data, requires_grad)
            if isinstance(data, Tensor):
                self._put(parameter, self.where(data))
            return parameter

        nn.Parameter.__new__ = staticmethod(new_parameter)  # type: ignore[method-assign, assignment]
        self._generator = torch.Generator

        class Generator(torch.Generator):
            def __new__(cls, device: Any = "cpu") -> Any:
                return CudaGenerator() if _is_cuda(device) else super().__new__(cls)

        torch.Generator = Generator  # type: ignore[misc]
        return super().__enter__()

    def __exit__(self, *args: Any) -> None:
        nn.Parameter.__new__ = self._new  # type: ignore[method-assign]
        torch.Generator = self._generator  # type: ignore[misc]
        super().__exit__(*args)

    def where(self, tensor: Tensor) -> str:
        return "cuda" if tensor in self.there else "cpu"

    def _put(self, tensor: Tensor, place: str) -> Tensor:
        if place == "cuda":
            self.there[tensor] = True
        else:
            self.there.pop(tensor, None)
        return tensor

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: PLR0912 - a branch for each way torch makes tensors
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        owner = getattr(func, "__self__", None)
        if owner is Tensor.device or owner is Tensor.is_cuda or owner is Tensor.is_cpu:
            place = self.where(args[0])
            return {Tensor.device: CUDA if place == "cuda" else CPU, Tensor.is_cuda: place == "cuda",
                    Tensor.is_cpu: place == "cpu"}[owner]  # fmt: skip
        if name == "__get__":  # an attribute that is a tensor (grad, data, T, ...) is where its owner is
            return self._mark(func(*args, **kwargs), self.where(args[0]))
        if name == "__set__":
            func(*args, **kwargs)
            if owner is Tensor.data:
                self._put(args[0], self.where(args[1]))
            return None
        if name in ("to", "cpu", "cuda") and isinstance(args[0], Tensor):
            return self._moved(name, args[0], args[1:], kwargs)
        given = list(_tensors((args, kwargs)))
        if name in TO_HOST and any(self.where(t) == "cuda" for t in given):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        asked = kwargs.get("device")
        if _is_cuda(asked):
            kwargs["device"] = "cpu"
        generator = kwargs.get("generator")
        if name not in CROSSING and asked is None:
            self._check(name, args, given)
        if isinstance(generator, torch._C.Generator):
            wanted = "cuda" if _is_cuda(asked) or self._any_there(given) else "cpu"
            if generator.device.type != wanted:
                raise DeviceMismatch(
                    f"{name}: expected a '{wanted}' device type for generator but found '{generator.device.type}'"
                )
        result = func(*args, **kwargs)
        if name == "grad" and isinstance(result, tuple):  # torch.autograd.grad: each where its input is
            inputs = args[1] if len(args) > 1 else kwargs["inputs"]
            inputs = (inputs,) if isinstance(inputs, Tensor) else inputs
            for gradient, source in zip(result, inputs, strict=True):
                if gradient is not None:
                    self._put(gradient, self.where(source))
            return result
        if asked is not None:
            return self._mark(result, "cuda" if _is_cuda(asked) else "cpu")
        if name == "copy_":
            return result
        return self._mark(result, "cuda" if self._any_there(given) else "cpu") if given else result

    def _moved(self, name: str, source: Tensor, args: Any, kwargs: dict[str, Any]) -> Tensor:
        """`to` in all its forms, `cpu` and `cuda`: the type changes for real, the place in name."""
        place, dtype = self.where(source), kwargs.get("dtype")
        for value in (*args, kwargs.get("device"), kwargs.get("other")):
            if isinstance(value, Tensor):
                place, dtype = self.where(value), value.dtype
            elif isinstance(value, str | torch.device):
                place = torch.device(value).type
            elif isinstance(value, torch.dtype):
                dtype = value
        if name != "to":
            place = name
        result = source.to(dtype or source.dtype)
        if "memory_format" in kwargs:
            result = result.contiguous(memory_format=kwargs["memory_format"])
        if place == self.where(source):
            return self._put(result, place)
        self.moves += place == "cuda"
        return self._put(result.clone() if result is source else result, place)

    def _check(self, name: str, args: Any, given: list[Tensor]) -> None:
        if name == "__getitem__" and self.where(args[0]) == "cuda":
            return
        if name == "__setitem__" and self.where(args[0]) == "cuda":
            indices = list(_tensors(args[1]))
            given = [t for t in given if not any(t is index for index in indices)]
            if not indices and not isinstance(args[1], list):
                return  # a slice: its values are copied, from any device
        placed = [(self.where(t), t.dim()) for t in given]
        if any(place == "cuda" for place, _ in placed) and any(place == "cpu" and dim for place, dim in placed):
            shapes = ", ".join(f"{tuple(t.shape)} on {self.where(t)}" for t in given)
            raise DeviceMismatch(f"{name}: expected all tensors to be on the same device, found {shapes}")

    def _any_there(self, given: Iterable[Tensor]) -> bool:
        return any(self.where(t) == "cuda" for t in given)

    def _mark(self, result: Any, place: str) -> Any:
        for tensor in _tensors(result):
            self._put(tensor, place)
        return result


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
