"""SPIN's estimator (Kolotouros et al. 2019): HMR with a ResNet-50, loading and saving SPIN's own checkpoints.

The architecture is that of SPIN models/hmr.py; keys are flat (conv1, ..., layer4, fc1, fc2, decpose, decshape,
deccam, and the buffers init_pose, init_shape, init_cam).
Dimensions: B batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posegen.body.model import BodyModel
from posegen.body.rotations import spin_rot6d_to_matrix
from posegen.body.skeleton import Skeleton
from posegen.errors import CheckpointError
from posegen.estimator.base import TrainableEstimator
from posegen.estimator.checkpoint import load_strict, read_state
from posegen.estimator.preprocess import IMAGENET_MEAN, IMAGENET_STD, normalise, resize
from posegen.estimator.resnet import ResNetTrunk
from posegen.estimator.smpl_head import SmplHead
from posegen.files.arrays import read_npz
from posegen.scene import Prediction

IMAGE_SIZE = 224
POSE, BETAS, CAMERA = 144, 10, 3
ITERATIONS = 3


class SpinNetwork(ResNetTrunk):
    """ResNet-50 features and the iterative regressor. There is no non-linearity between fc1 and fc2."""

    init_pose: Tensor  # (1,144)
    init_shape: Tensor  # (1,10)
    init_cam: Tensor  # (1,3)

    def __init__(self) -> None:
        super().__init__(50)
        self.fc1 = nn.Linear(self.features + POSE + BETAS + CAMERA, 1024)
        self.drop1 = nn.Dropout()
        self.fc2 = nn.Linear(1024, 1024)
        self.drop2 = nn.Dropout()
        self.decpose = nn.Linear(1024, POSE)
        self.decshape = nn.Linear(1024, BETAS)
        self.deccam = nn.Linear(1024, CAMERA)
        for head in (self.decpose, self.decshape, self.deccam):
            nn.init.xavier_uniform_(head.weight, gain=0.01)
        self.register_buffer("init_pose", torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]).repeat(24)[None])
        self.register_buffer("init_shape", torch.zeros(1, BETAS))
        self.register_buffer("init_cam", torch.tensor([[0.9, 0.0, 0.0]]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised images (B,3,224,224) -> rotations (B,24,3,3), betas (B,10), camera (B,3)."""
        features = F.avg_pool2d(self.trunk(x), 7, 1).flatten(1)
        pose, shape, camera = (v.expand(len(x), -1) for v in (self.init_pose, self.init_shape, self.init_cam))
        for _ in range(ITERATIONS):
            hidden = self.drop1(self.fc1(torch.cat([features, pose, shape, camera], 1)))
            hidden = self.drop2(self.fc2(hidden))
            pose = pose + self.decpose(hidden)
            shape = shape + self.decshape(hidden)
            camera = camera + self.deccam(hidden)
        return spin_rot6d_to_matrix(pose.reshape(-1, 24, 6)), shape, camera


class Spin(TrainableEstimator):
    """SPIN behind the estimators' protocol. Its state dict is the network's alone: the body is not in checkpoints."""

    name = "spin"
    image_size = IMAGE_SIZE
    learning_rate = 5e-5  # SPIN's own (utils/train_options.py)

    def __init__(self, head: SmplHead) -> None:
        super().__init__()
        self.network = SpinNetwork()
        self.head = head
        self.joint_set = head.joint_set

    @property
    def body(self) -> BodyModel:
        """The body that its rotations and betas are of."""
        return self.head.body

    @property
    def skeleton(self) -> Skeleton:
        return self.head.skeleton

    def choose_joint_set(self, name: str) -> None:
        """See SmplHead."""
        self.head.choose_joint_set(name)
        self.joint_set = name

    def predict(self, images: Tensor) -> Prediction:
        x = normalise(resize(images, IMAGE_SIZE), IMAGENET_MEAN, IMAGENET_STD)
        return self.head(*self.network(x))

    def checkpoint_state(self) -> dict[str, Tensor]:
        return self.network.state_dict()

    def load_checkpoint_state(self, state: Mapping[str, Tensor], where: object = None) -> None:
        load_strict(self.network, state, "SPIN (HMR with ResNet-50)", where)


def read_mean_params(path: str | Path) -> dict[str, Tensor]:
    """smpl_mean_params.npz (pose (144,), shape (10,), cam (3,)) as SPIN's three buffers."""
    path = Path(path).expanduser()
    sizes = {"pose": POSE, "shape": BETAS, "cam": CAMERA}
    arrays = read_npz(
        path, list(sizes), what="the file of SMPL mean parameters", error=CheckpointError, next_command="posegen doctor"
    )
    found = {key: array.astype(np.float32).reshape(1, -1) for key, array in arrays.items()}
    for key, size in sizes.items():
        if found[key].shape[1] != size:
            raise CheckpointError(f"{key} has {found[key].shape[1]} numbers instead of {size}", where=path)
    return {f"init_{key}": torch.from_numpy(value.copy()) for key, value in found.items()}


def spin(
    checkpoint: str | Path | None = None,
    mean_params: str | Path | None = None,
    body: BodyModel | str | Path | None = None,
    joint_set: str | None = None,
    vertices: bool = False,
) -> Spin:
    """Builds the estimator.

    Args:
        checkpoint: SPIN's model_checkpoint.pt, a PoseGen fine-tune of it, or a file that save_checkpoint wrote. None
            leaves random weights.
        mean_params: smpl_mean_params.npz; fills the three buffers where the checkpoint has none, else must agree.
        body: a BodyModel or a path to SMPL files; None is the embedded body.
        joint_set: see SmplHead.
        vertices: whether predictions carry vertices.
    """
    model = Spin(SmplHead(body, joint_set, vertices))
    means = None if mean_params is None else read_mean_params(mean_params)
    if checkpoint is not None:
        state = read_state(checkpoint)
        if means is not None:
            state = {**means, **state}
        model.load_checkpoint_state(state, checkpoint)
    elif means is not None:
        for key, value in means.items():
            getattr(model.network, key).copy_(value)
    return model.eval()
