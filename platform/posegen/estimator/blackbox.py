"""Estimators that offer no gradient: a Python callable, an HTTP service, an ONNX file.

They work in the loop through the score-function feedback, which needs errors only. Each turns images into joints of a
named set, in metres, in the camera frame (OpenCV axes); centring is done here.
Dimensions: B batch, S image side, J joints.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posegen.body.joint_sets import joint_set as named_joint_set
from posegen.errors import ConfigError, DataError
from posegen.estimator.preprocess import check_images, resize
from posegen.scene import Prediction

SUSPICIOUS_M = 20.0  # a body's joints do not reach this far from its root: the unit is then millimetres


class BlackBox:
    """Any function from images to joints, behind the estimators' protocol.

    Args:
        function: images (B,3,S,S) float32 in [0,1] -> joints (B,J,3), metres. Its exceptions pass through.
        joint_set: name of what it predicts.
        image_size: side that it wants, px; images are resized to it.
        name: shown in reports.
        scale_m: what to multiply its output by to get metres (0.001 for millimetres).
        where: what to name in errors.
    """

    differentiable = False

    def __init__(
        self,
        function: Callable[[NDArray[np.float32]], Any],
        joint_set: str,
        image_size: int,
        name: str = "blackbox",
        scale_m: float = 1.0,
        where: str | None = None,
    ) -> None:
        self.function = function
        self._joints = named_joint_set(joint_set)
        self.joint_set = joint_set
        self.image_size = image_size
        self.name = name
        self.scale_m = scale_m
        self.where = where or name

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Prediction:
        check_images(images)
        pixels = resize(images.detach(), self.image_size).float().cpu().contiguous().numpy()
        joints = self._checked(self.function(pixels), len(images))
        return Prediction(self._joints.centred(joints.to(images.device)), self.joint_set)

    def _checked(self, answer: Any, batch: int) -> Tensor:
        array = answer.detach().cpu().numpy() if isinstance(answer, Tensor) else np.asarray(answer)
        if array.dtype == object or not np.issubdtype(array.dtype, np.number):
            raise DataError(f"the estimator answered with {array.dtype} instead of numbers", where=self.where)
        expected = (batch, len(self._joints), 3)
        if array.shape != expected:
            raise DataError(
                f"the estimator answered with shape {array.shape} instead of {expected} "
                f"(joint set {self.joint_set} has {len(self._joints)} joints)",
                where=self.where,
            )
        if not np.isfinite(array).all():
            raise DataError("the estimator answered with values that are not finite", where=self.where)
        joints = torch.from_numpy(array.astype(np.float32)) * self.scale_m
        reach = float(self._joints.centred(joints).norm(dim=-1).max()) if batch else 0.0
        if reach > SUSPICIOUS_M:
            raise DataError(
                f"the estimator puts a joint {reach:.0f} m from the root: its unit is probably not the metre",
                where=self.where,
                next_command="estimator.options.scale_m=0.001 if it answers in millimetres",
            )
        return joints


def import_callable(path: str) -> Callable[..., Any]:
    """The object at an import path `package.module:name` (or with a dot)."""
    module_name, separator, attribute = path.partition(":")
    if not separator:
        module_name, _, attribute = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"cannot import {path!r}: {error}", next_command="give package.module:function, on the Python path"
        ) from error
    if not callable(found):
        raise ConfigError(f"{path!r} is not callable but {type(found).__name__}")
    return found


def python_callable(
    function: str | Callable[..., Any],
    joint_set: str = "smpl24",
    image_size: int = 224,
    scale_m: float = 1.0,
) -> BlackBox:
    """A function by import path (`package.module:function`) or itself: (B,3,S,S) numpy -> (B,J,3)."""
    found = import_callable(function) if isinstance(function, str) else function
    return BlackBox(found, joint_set, image_size, "callable", scale_m, str(function))


def http(
    url: str,
    joint_set: str = "smpl24",
    image_size: int = 224,
    scale_m: float = 1.0,
    timeout_s: float = 30.0,
    format: str = "npz",
    retries: int = 2,
) -> BlackBox:
    """A service that answers POST requests; see posegen.estimator.http_client."""
    from posegen.estimator.http_client import HttpClient

    client = HttpClient(url, timeout_s, format, retries)
    return BlackBox(client, joint_set, image_size, "http", scale_m, url)


def onnx(
    checkpoint: str | Path,
    joint_set: str = "smpl24",
    image_size: int = 224,
    scale_m: float = 1.0,
    output: str | None = None,
    mean: tuple[float, ...] = (0.0, 0.0, 0.0),
    std: tuple[float, ...] = (1.0, 1.0, 1.0),
) -> BlackBox:
    """An ONNX file with one image input (B,3,S,S); needs the package onnxruntime.

    Args:
        checkpoint: the file.
        output: name of the output with the joints; None takes the first. (B,3J) is reshaped to (B,J,3).
        mean, std: normalisation the network expects, on RGB in [0,1].
    """
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise ConfigError("no such ONNX file", where=path)
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            "ONNX files need the package onnxruntime, which is not installed",
            where=path,
            next_command="pip install onnxruntime",
        ) from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own kinds, all derived from Exception
        raise ConfigError(f"onnxruntime cannot load the file: {str(error)[:300]}", where=path) from error
    outputs = [node.name for node in session.get_outputs()]
    if output is not None and output not in outputs:
        raise ConfigError(f"the network has no output {output!r}", where=path, choices=outputs)
    entry = session.get_inputs()[0].name
    shift, scale = (np.asarray(v, np.float32).reshape(1, 3, 1, 1) for v in (mean, std))

    def run(images: NDArray[np.float32]) -> NDArray[Any]:
        joints = session.run([output or outputs[0]], {entry: (images - shift) / scale})[0]
        return joints.reshape(len(joints), -1, 3) if joints.ndim == 2 else joints

    return BlackBox(run, joint_set, image_size, "onnx", scale_m, str(path))
