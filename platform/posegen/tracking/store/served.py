"""An estimator as MLflow keeps it: a module from pictures to joints, and the pickle that it is written by and read by.

MLflow's pytorch flavour pickles whole modules, and to read one back is to run whatever it says. Here the pickle holds
a recipe and tensors, and MLflow is told to use this module in the place of `pickle` (it imports it by its name where
the model is loaded, so posegen has to be installed there): its Unpickler makes tensors and ServedEstimators alone.
"""

from __future__ import annotations

import json
import logging
import pickle
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from posegen.config import PosegenConfig
from posegen.errors import CheckpointError
from posegen.estimator import build
from posegen.estimator.base import TrainableEstimator
from posegen.estimator.configured import SMPL_ESTIMATORS, build_estimator
from posegen.scene import ChoosesJointSet

_FORMAT = 1
FILE = "model.pth"  # as the flavour names it
# What a file may name, beside this module's own `rebuilt`: what torch.save writes of tensors.
_TENSORS = frozenset({
    ("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"),
    *(("torch", f"{kind}Storage") for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char",
                                                "Byte", "Bool")),
})  # fmt: skip

Pickler = pickle.Pickler


class Unpickler(pickle.Unpickler):
    """Makes what ServedEstimator is written as, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == (__name__, "rebuilt"):
            return rebuilt
        if (module, name) in _TENSORS:
            return super().find_class(module, name)
        raise CheckpointError(
            f"the model's file names {module}.{name}, which is no part of an estimator", where=Path(FILE),
            next_command="posegen track sync",
        )  # fmt: skip


class ServedEstimator(nn.Module):
    """images (B,3,S,S) RGB in [0,1], any S -> joints (B,J,3) m, centred on the root, in the camera's frame.

    Args:
        estimator: all that it says (rotations, betas, camera) is had of `model.estimator(images)`.
        recipe: what it is built of: `name`, `options`, and `body` where it was given one.
    """

    def __init__(self, estimator: TrainableEstimator, recipe: Mapping[str, Any]) -> None:
        super().__init__()
        self.estimator, self.recipe = estimator, dict(recipe)

    def forward(self, images: Tensor) -> Tensor:
        return self.estimator(images).joints

    def __reduce__(self) -> tuple[Any, ...]:
        state = {key: value.detach().cpu() for key, value in self.estimator.checkpoint_state().items()}
        return rebuilt, (_FORMAT, json.dumps(self.recipe), state)


def rebuilt(version: int, recipe: str, state: dict[str, Tensor]) -> ServedEstimator:
    """Of what __reduce__ says. CheckpointError where the estimator is not as it was."""
    if version != _FORMAT:
        raise CheckpointError(f"the model has format {version!r:.20}, this posegen reads {_FORMAT}", where=Path(FILE))
    told = json.loads(recipe)
    keywords = dict(told["options"])
    if told.get("body"):
        from posegen.body.model import load_body

        keywords["body"] = load_body(told["body"])
    estimator = build(told["name"], **keywords)
    assert isinstance(estimator, TrainableEstimator)
    estimator.load_checkpoint_state(state, FILE)
    if isinstance(estimator, ChoosesJointSet):
        estimator.choose_joint_set(told["joint_set"])
    return ServedEstimator(estimator, told).eval()


def served(config: PosegenConfig, weights: Path | None) -> ServedEstimator | None:
    """The estimator of a run, with other weights if a file is given; None for one that has none."""
    estimator = build_estimator(config, checkpoint=None if weights is None else str(weights))
    if not isinstance(estimator, TrainableEstimator):
        return None
    # Of the keywords those that are no weights: these are in the file.
    options = replace(config.estimator, checkpoint=None, mean_params=None).keywords()
    if (config.estimator.checkpoint or "").endswith(".tflite"):
        options["model_file"] = config.estimator.checkpoint
    body = config.estimator.body or (config.body.path if config.estimator.name in SMPL_ESTIMATORS else None)
    recipe = {"name": config.estimator.name, "options": options, "body": body, "joint_set": estimator.joint_set}
    return ServedEstimator(estimator.eval(), recipe)


def save(model: ServedEstimator, folder: Path, images: np.ndarray) -> None:
    """Writes a model in MLflow's layout, with signature and input example.

    Args:
        images: (N,3,S,S) float32 RGB in [0,1].
    """
    import mlflow.pytorch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from posegen import __version__

    with torch.no_grad():
        joints = model(torch.from_numpy(images)).numpy()
    given = TensorSpec(np.dtype("float32"), (-1, 3, *images.shape[2:]))
    made = TensorSpec(np.dtype("float32"), (-1, *joints.shape[1:]))
    # It warns of pickles that run what they say, which this one does not.
    logging.getLogger("mlflow.pytorch").setLevel(logging.ERROR)
    mlflow.pytorch.save_model(
        model,
        str(folder),
        pickle_module=sys.modules[__name__],
        serialization_format="pickle",
        signature=ModelSignature(Schema([given]), Schema([made])),
        input_example=images,
        # Told, not guessed: MLflow would load the model in a process of its own to see what it imports.
        pip_requirements=[f"posegen=={__version__}", f"torch=={torch.__version__.partition('+')[0]}"],
    )
