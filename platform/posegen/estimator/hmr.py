"""HMR's head: rotations, shape and a weak-perspective camera by iterative regression (Kanazawa et al. 2018).

Dimensions: B batch, C features, J joints.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posegen.body.joint_sets import LIMBS12, SMPL24
from posegen.body.rotations import rot6d_to_matrix
from posegen.body.skeleton import Skeleton
from posegen.errors import CheckpointError, ConfigError
from posegen.estimator.base import TrainableEstimator
from posegen.estimator.preprocess import IMAGENET_MEAN, IMAGENET_STD, normalise, resize
from posegen.scene import Prediction

POSE, BETAS, CAMERA = 24 * 6, 10, 3
HmrKind = TypeVar("HmrKind", bound="Hmr")
JOINT_SETS = (SMPL24.name, LIMBS12.name)


def mean_parameters() -> Tensor:
    """The start of the iteration (157,): rest pose facing the camera, mean shape, camera (0.9, 0, 0)."""
    pose = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]).repeat(24, 1)
    pose[0] = torch.tensor([1.0, 0.0, 0.0, 0.0, -1.0, 0.0])  # y up in the body, down in the camera
    return torch.cat([pose.flatten(), torch.zeros(BETAS), torch.tensor([0.9, 0.0, 0.0])])


class IterativeRegressor(nn.Module):
    """theta <- theta + f(features, theta), three times."""

    mean: Tensor  # (157,)

    def __init__(self, features: int, hidden: int = 256, iterations: int = 3) -> None:
        super().__init__()
        self.iterations = iterations
        state = POSE + BETAS + CAMERA
        self.from_features = nn.Linear(features, hidden)
        self.from_state = nn.Linear(state, hidden, bias=False)
        self.hidden = nn.Linear(hidden, hidden)
        self.update = nn.Linear(hidden, state)
        nn.init.xavier_uniform_(self.update.weight, gain=0.01)
        nn.init.zeros_(self.update.bias)
        self.register_buffer("mean", mean_parameters())

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """features (B,C) -> rotations (B,24,3,3), betas (B,10), camera (B,3)."""
        # W [f; theta] = Wf f + Wt theta: the features' half is the same in each iteration
        fixed = self.from_features(features)
        theta = self.mean.expand(len(features), -1)
        for _ in range(self.iterations):
            theta = theta + self.update(F.relu(self.hidden(F.relu(fixed + self.from_state(theta)))))
        pose, betas, camera = theta.split([POSE, BETAS, CAMERA], -1)
        return rot6d_to_matrix(pose.reshape(-1, 24, 6)), betas, camera


class Hmr(TrainableEstimator):
    """A backbone, HMR's regressor and a skeleton: that of the body its rotations and betas are of."""

    def __init__(
        self, name: str, backbone: nn.Module, features: int, image_size: int, skeleton: Skeleton, hidden: int = 256
    ) -> None:
        super().__init__()
        self.name = name
        self.joint_set = SMPL24.name
        self.image_size = image_size
        self.backbone = backbone
        self.regressor = IterativeRegressor(features, hidden)
        self.skeleton = skeleton

    def choose_joint_set(self, name: str) -> None:
        """Which joints predictions hold from now on: "smpl24", or "limbs12" for comparison with another body."""
        if name not in JOINT_SETS:
            raise ConfigError(f"{self.name} gives no joint set {name!r}", choices=JOINT_SETS)
        self.joint_set = name

    def predict(self, images: Tensor) -> Prediction:
        return self.regressed(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """images (B,3,S,S) in [0,1] -> (B,C)."""
        x = normalise(resize(images, self.image_size), IMAGENET_MEAN, IMAGENET_STD)
        return self.backbone(x.contiguous(memory_format=torch.channels_last))

    def regressed(self, features: Tensor) -> Prediction:
        """What the features (B,C) say of the person; in their precision, which half floats are too coarse for."""
        rotations, betas, camera = self.regressor(features)
        joints = self.skeleton(rotations, betas)
        if self.joint_set == LIMBS12.name:
            joints = joints[:, LIMBS12.common(SMPL24)[1]]
            root = LIMBS12.root_of(joints)
            joints, camera = joints - root, torch.cat([camera[:, :1], camera[:, 1:] + root[:, 0, :2]], 1)
        return Prediction(joints, self.joint_set, rotations, betas, camera)


def shipped_hmr(
    model: HmrKind,
    shipped: Path,
    checkpoint: str | Path | None,
    start: Callable[[], None] | None,
    body: nn.Module | None,
) -> HmrKind:
    """An estimator whose weights come with the package, with those or others, ready to predict.

    Args:
        shipped: the package's weights, which jobs/pretrain_NAME.py makes.
        checkpoint: other weights; None takes the shipped ones.
        start: for pre-training: what the weights start from instead.
        body: whose skeleton to use; None keeps that of the weights, or takes the embedded body's with `start`.

    Raises:
        CheckpointError: the shipped weights are missing, or weights do not fit.
    """
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if checkpoint is not None or start is None:
        path = Path(checkpoint or shipped)
        if checkpoint is None and not path.is_file():
            raise CheckpointError(
                "the shipped weights are missing", where=path, next_command=f"python jobs/pretrain_{model.name}.py"
            )
        model.load(path)
    else:
        start()
        if body is None:
            from posegen.body.model import load_body

            body = load_body(resolution="low")
    if body is not None:
        model.skeleton = Skeleton.of_body(body)
    return model.eval()
