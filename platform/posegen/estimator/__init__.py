"""Pose estimators: one protocol (scene.Estimator), many sources of weights.

    estimator = build("hmr_small")
    prediction = estimator(images)  # (B,3,S,S) in [0,1] -> Prediction, in the camera frame

A new estimator is a factory registered here or in another package under the entry point `posegen.estimators`; see
docs/reference/estimators.md. Heavy imports happen when an estimator is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posegen.arguments import check_arguments
from posegen.errors import CheckpointError
from posegen.registry import Registry

if TYPE_CHECKING:
    from posegen.estimator.crop import CropConvention
    from posegen.scene import Estimator

REGISTRY: Registry[Estimator] = Registry("estimators")

__all__ = ["REGISTRY", "build", "declared_crop", "load_checkpoint", "save_checkpoint", "trainable"]


def build(name: str, **options: Any) -> Estimator:
    """The estimator called `name`.

    Args:
        options: of that estimator's factory; most take `checkpoint`.

    Raises:
        ConfigError: unknown name or option, with the valid ones.
        CheckpointError: the weights do not fit.

    Example:
        >>> import torch
        >>> from posegen import build_estimator
        >>> estimator = build_estimator("hmr_small")
        >>> prediction = estimator(torch.rand(2, 3, 96, 96))  # person crops, RGB in [0, 1]
        >>> prediction.joint_set, prediction.joints.shape  # m, centred on the pelvis, in the camera's frame
        ('smpl24', torch.Size([2, 24, 3]))
    """
    factory = REGISTRY.get(name)
    _check_options(name, factory, options)
    return factory(**options)


def declared_crop(name: str, options: Mapping[str, Any]) -> CropConvention:
    """How the estimator called `name` wants its person cropped. Plug-ins are built to be asked; the others are known.

    Args:
        options: as for `build`; `image_size` among them is the size.
    """
    from posegen.estimator.crop import DECLARED, crop_of

    if name not in DECLARED:
        return crop_of(build(name, **options))
    return replace(DECLARED[name], size_px=int(options.get("image_size", DECLARED[name].size_px)))


def trainable(estimator: Estimator) -> bool:
    """Whether it has weights to fine-tune. Functions, services and ONNX files have none."""
    from torch import nn

    return isinstance(estimator, nn.Module) and any(parameter.numel() for parameter in estimator.parameters())


def save_checkpoint(estimator: Estimator, path: str | Path) -> Path:
    """Writes an estimator's weights, under the keys its original uses: {"model": state, "posegen": {...}}."""
    from posegen.estimator.base import TrainableEstimator
    from posegen.estimator.checkpoint import WEIGHTS_FORMAT, write_torch

    if not isinstance(estimator, TrainableEstimator):
        raise CheckpointError(f"estimator {estimator.name} has no weights to save", where=path)
    state = {key: value.detach().cpu().clone() for key, value in estimator.checkpoint_state().items()}
    return write_torch({"model": state, "posegen": {"estimator": estimator.name, "format": WEIGHTS_FORMAT}}, path)


def load_checkpoint(name: str, path: str | Path, **options: Any) -> Estimator:
    """The estimator called `name` with weights from a file, the original's or one that save_checkpoint wrote.

    Raises:
        CheckpointError: the file is of another estimator, or keys are missing or left over.
    """
    from posegen.estimator.checkpoint import read_file

    REGISTRY.get(name)
    written_by = read_file(path).get("posegen")
    if isinstance(written_by, dict) and written_by.get("estimator") not in (None, name):
        raise CheckpointError(
            f"the checkpoint is of estimator {written_by['estimator']!r}, not {name!r}",
            where=path,
            next_command=f"estimator={written_by['estimator']}",
        )
    return build(name, checkpoint=path, **options)


def _check_options(name: str, factory: Callable[..., Estimator], options: Mapping[str, Any]) -> None:
    def command(blanks: list[str]) -> str:
        own = ("checkpoint=", "mean_params=")
        keys = (f"estimator.{blank}" if blank.startswith(own) else f"estimator.options.{blank}" for blank in blanks)
        return f"estimator={name} {' '.join(keys)}"

    check_arguments(f"estimator {name}", factory, options, where="estimator.options", missing=command)


def _register_builtin(name: str, module: str | None = None, function: str | None = None) -> None:
    """Registers a function of a module of this package, which is imported when it is first built."""

    @REGISTRY.register(name)
    def factory(**options: Any) -> Estimator:
        found = getattr(import_module(f"{__name__}.{module or name}"), function or name)
        _check_options(name, found, options)
        return found(**options)


for _name in ("blazepose", "efficientnet", "hmr_lite", "hmr_small", "hybrik", "spin"):
    _register_builtin(_name)
_register_builtin("callable", "blackbox", "python_callable")
_register_builtin("http", "blackbox")
_register_builtin("onnx", "blackbox")
