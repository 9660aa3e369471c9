"""HMR's head: rotations, shape and a weak-perspective camera by iterative regression (Kanazawa et al. 2018).

Dimensions: B batch, C features, J joints.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posegen.body.joint_sets import SMPL24
from posegen.body.kinematics import forward_kinematics
from posegen.body.rotations import rot6d_to_matrix
from posegen.estimator.base import TrainableEstimator
from posegen.estimator.preprocess import IMAGENET_MEAN, IMAGENET_STD, normalise, resize
from posegen.scene import Prediction

POSE, BETAS, CAMERA = 24 * 6, 10, 3


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


class Skeleton(nn.Module):
    """The body's rest joints as a linear function of its shape: all that joints need, without the mesh."""

    template: Tensor  # (24,3) m
    shapedirs: Tensor  # (24,3,10) m

    def __init__(self, template_m: Tensor | None = None, shapedirs_m: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("template", torch.zeros(24, 3) if template_m is None else template_m.clone())
        self.register_buffer("shapedirs", torch.zeros(24, 3, BETAS) if shapedirs_m is None else shapedirs_m.clone())

    @staticmethod
    def of_body(body: Any) -> Skeleton:
        """From anything with SMPL's buffers v_template (V,3), shapedirs (V,3,10) and J_regressor (24,V)."""
        regressor = body.J_regressor.to(torch.float64)
        template = regressor @ body.v_template.to(torch.float64)
        directions = torch.einsum("jv,vck->jck", regressor, body.shapedirs[..., :BETAS].to(torch.float64))
        return Skeleton(template.float(), directions.float())

    def forward(self, rotations: Tensor, betas: Tensor) -> Tensor:
        """rotations (B,24,3,3), betas (B,10) -> joints (B,24,3) m, the pelvis at the origin."""
        rest = self.template + torch.einsum("jck,bk->bjc", self.shapedirs, betas)
        return SMPL24.centred(forward_kinematics(rotations, rest)[1])


class Hmr(TrainableEstimator):
    """A backbone, HMR's regressor and a skeleton."""

    joint_set = SMPL24.name

    def __init__(
        self, name: str, backbone: nn.Module, features: int, image_size: int, skeleton: Skeleton, hidden: int = 256
    ) -> None:
        super().__init__()
        self.name = name
        self.image_size = image_size
        self.backbone = backbone
        self.regressor = IterativeRegressor(features, hidden)
        self.skeleton = skeleton

    def predict(self, images: Tensor) -> Prediction:
        x = normalise(resize(images, self.image_size), IMAGENET_MEAN, IMAGENET_STD)
        rotations, betas, camera = self.regressor(self.backbone(x.contiguous(memory_format=torch.channels_last)))
        joints = self.skeleton(rotations, betas)
        return Prediction(joints, self.joint_set, rotations, betas, camera)
