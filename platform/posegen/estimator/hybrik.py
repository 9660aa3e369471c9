"""HybrIK's camera variant with a ResNet-34 (Li et al. 2021), loading and saving HybrIK's own checkpoints.

After HybrIK hybrik/models/simple3dposeSMPLWithCam.py and configs/256x192_adam_lr1e-3-res34_smpl_3d_cam_2x_mix*.yaml:
3D heat maps of 29 joints give a skeleton by soft-argmax, fully connected heads give shape, twist, camera and
confidence, inverse kinematics gives the rotations.
Dimensions: B batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from posegen.body.joint_sets import H36M17, LIMBS12, SMPL24
from posegen.body.joint_sets import joint_set as named_joint_set
from posegen.body.model import BodyModel, load_body
from posegen.body.skeleton import Skeleton
from posegen.errors import CheckpointError, ConfigError
from posegen.estimator.base import TrainableEstimator
from posegen.estimator.checkpoint import load_strict, read_state
from posegen.estimator.hybrik_body import HybrikBody
from posegen.estimator.hybrik_ik import inverse_kinematics
from posegen.estimator.preprocess import normalise, resize
from posegen.estimator.resnet import ResNetTrunk
from posegen.files.arrays import read_npy
from posegen.scene import Prediction

IMAGE_SIZE = 256
# HybrIK's own (utils/presets/simple_transform_3d_smpl_cam.py): ImageNet's in BGR order, with a typo, applied to RGB
MEAN = (0.406, 0.457, 0.480)
STD = (0.225, 0.224, 0.229)
JOINTS = 29
DEPTH = HEIGHT = WIDTH = 64
FOCAL_PX = 1000.0
DEPTH_RANGE_M = 2.2  # BBOX_3D_SHAPE 2200 mm
JOINT_SETS = (H36M17.name, SMPL24.name, LIMBS12.name)


@dataclass(frozen=True)
class HybrikOutput:
    """What the network and the kinematics give, before a joint set is chosen."""

    uvd: Tensor  # (B,29,3) of the crop, -0.5..0.5; depth in units of 2.2 m
    skeleton_m: Tensor  # (B,29,3) root-centred
    phi: Tensor  # (B,23,2)
    betas: Tensor  # (B,10)
    camera: Tensor  # (B,3) s, tx, ty
    sigma: Tensor  # (B,29,1) in 0..1
    rotations: Tensor  # (B,24,3,3)
    vertices: Tensor  # (B,V,3) m, relative to the regressed Human3.6M pelvis
    joints: Tensor  # (B,24,3) m, relative to the pelvis
    joints_h36m: Tensor  # (B,17,3) m, relative to its first; in the checkpoint's order, left leg first


class Preact(ResNetTrunk):
    """The ResNet-34 under the key `preact`."""

    def __init__(self) -> None:
        super().__init__(34)

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x)


def soft_argmax(logits: Tensor) -> Tensor:
    """Expected position under the softmax of heat maps: (B,J,D,H,W) -> (B,J,3) as u, v, d in -0.5..0.5."""
    heat = torch.softmax(logits.flatten(2), 2)
    heat = (heat / heat.sum(2, keepdim=True)).view_as(logits)  # as the original: its rounding is followed too
    marginals = (heat.sum((2, 3)), heat.sum((2, 4)), heat.sum((3, 4)))
    position = [
        (m * torch.arange(m.shape[-1], dtype=m.dtype, device=m.device)).sum(-1) / m.shape[-1] for m in marginals
    ]
    return torch.stack(position, -1) - 0.5


class HybrikNetwork(nn.Module):
    """The whole model under the original's keys."""

    init_shape: Tensor  # (10,) or (1,10)
    init_cam: Tensor  # (3,)

    def __init__(self, body: HybrikBody) -> None:
        super().__init__()
        self.preact = Preact()
        layers: list[nn.Module] = []
        for inputs in (self.preact.features, 256, 256):
            layers += [nn.ConvTranspose2d(inputs, 256, 4, 2, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU()]
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(256, JOINTS * DEPTH, 1)
        self.smpl = body
        self.register_buffer("init_shape", torch.zeros(10))
        self.register_buffer("init_cam", torch.tensor([0.9, 0.0, 0.0]))
        self.fc1 = nn.Linear(self.preact.features, 1024)
        self.drop1 = nn.Dropout(0.5)
        self.fc2 = nn.Linear(1024, 1024)
        self.drop2 = nn.Dropout(0.5)
        self.decshape = nn.Linear(1024, 10)
        self.decphi = nn.Linear(1024, 23 * 2)
        self.deccam = nn.Linear(1024, 3)
        self.decsigma = nn.Linear(1024, JOINTS)

    def forward(self, x: Tensor, adaptive: bool | None = None, place: Tensor | None = None) -> HybrikOutput:
        """Normalised images (B,3,256,256) -> HybrikOutput.

        Args:
            adaptive: form of the inverse kinematics; None is the original's: naive in training, else adaptive.
            place: (B,2) of the crops in their whole pictures (hybrik_crop.place_of): the skeleton is then seen in the
                picture's perspective, as in the original's tests; None for crops alone.
        """
        features = self.preact(x)
        maps = self.final_layer(self.deconv_layers(features)).view(len(x), JOINTS, DEPTH, HEIGHT, WIDTH)
        uvd = soft_argmax(maps)
        hidden = self.drop2(self.fc2(self.drop1(self.fc1(features.mean((2, 3))))))
        betas = self.decshape(hidden) + self.init_shape.view(1, -1)
        phi = self.decphi(hidden).view(-1, 23, 2)
        camera = self.deccam(hidden) + self.init_cam.view(1, -1)
        sigma = self.decsigma(hidden).view(-1, JOINTS, 1).sigmoid()
        skeleton = skeleton_m(uvd, camera, place)
        shaped, rest = self.smpl.rest_joints(betas)
        rotations = inverse_kinematics(skeleton, rest, phi, not self.training if adaptive is None else adaptive)
        vertices, joints = self.smpl.pose(rotations, shaped, rest)
        h36m = torch.einsum("jv,bvc->bjc", self.smpl.J_regressor_h36m, vertices)
        pelvis = h36m[:, :1]
        return HybrikOutput(
            uvd,
            skeleton,
            phi,
            betas,
            camera,
            sigma,
            rotations,
            vertices - pelvis,
            joints - joints[:, :1],
            h36m - pelvis,
        )


def skeleton_m(uvd: Tensor, camera: Tensor, place: Tensor | None = None) -> Tensor:
    """Crop positions and relative depths (B,29,3) and a weak-perspective camera (B,3) to metres, root-centred.

    Args:
        place: (B,2), see HybrikNetwork.forward.
    """
    depth = uvd[..., 2:] * DEPTH_RANGE_M
    distance = FOCAL_PX / (IMAGE_SIZE * camera[:, None, :1] + 1e-9)
    seen = uvd[..., :2] if place is None else uvd[..., :2] + place[:, None]
    plane = seen * (IMAGE_SIZE / FOCAL_PX) * (depth + distance)
    if place is None:
        plane = plane - camera[:, None, 1:]
    skeleton = torch.cat([plane, depth], -1)
    return skeleton - skeleton[:, :1]


class Hybrik(TrainableEstimator):
    """HybrIK behind the estimators' protocol.

    Args:
        body: its SMPL layer.
        joint_set: "h36m17", regressed from the vertices as in HybrIK's evaluation, "smpl24", or "limbs12" (those of
            smpl24 that mean the same on another body).
        vertices: whether predictions carry vertices.
        adaptive: see HybrikNetwork.forward.
    """

    name = "hybrik"
    image_size = IMAGE_SIZE
    learning_rate = 5e-5  # between the 1e-3 that its training begins with and the 1e-5 that it ends with

    def __init__(
        self, body: HybrikBody, joint_set: str = H36M17.name, vertices: bool = False, adaptive: bool | None = None
    ) -> None:
        super().__init__()
        self.vertices = vertices
        self.adaptive = adaptive
        self.network = HybrikNetwork(body)
        self.choose_joint_set(joint_set)

    @property
    def body(self) -> BodyModel:
        """The body that its rotations and betas are of."""
        return self.network.smpl.as_body()

    @property
    def skeleton(self) -> Skeleton:
        return Skeleton.of_body(self.network.smpl)

    def choose_joint_set(self, name: str) -> None:
        """Which joints predictions hold from now on. Raises ConfigError."""
        if name not in JOINT_SETS:
            raise ConfigError(f"HybrIK gives no joint set {name!r}", choices=JOINT_SETS)
        self.joint_set = name

    def predict(self, images: Tensor) -> Prediction:
        out = self.network(normalise(resize(images, IMAGE_SIZE), MEAN, STD), self.adaptive)
        joints, root = out.joints_h36m[:, self.network.smpl.h36m_rows()], torch.zeros_like(out.joints[:, :1])
        if self.joint_set != H36M17.name:
            names = named_joint_set(self.joint_set)
            joints = out.joints[:, names.common(SMPL24)[1]]
            root = names.root_of(joints)
        vertices = None
        if self.vertices:  # centred like the joints
            vertices = out.vertices
            if self.joint_set != H36M17.name:
                pelvis = torch.einsum("v,bvc->bc", self.network.smpl.J_regressor[0], out.vertices)
                vertices = out.vertices - pelvis[:, None] - root
        # HybrIK's scale is of a crop that is 1 wide, ours of one that goes from -1 to 1.
        camera = torch.cat([2 * out.camera[:, :1], out.camera[:, 1:] + root[:, 0, :2]], 1)
        return Prediction(joints - root, self.joint_set, out.rotations, out.betas, camera, vertices)

    def checkpoint_state(self) -> dict[str, Tensor]:
        return self.network.state_dict()

    def load_checkpoint_state(self, state: Mapping[str, Tensor], where: object = None) -> None:
        if state.get("init_shape") is not None and state["init_shape"].shape == (1, 10):
            self.network.init_shape = self.network.init_shape.view(1, 10)  # either shape occurs and is written back
        load_strict(self.network, state, "HybrIK (camera variant, ResNet-34, 29 joints)", where)


def hybrik(
    checkpoint: str | Path | None = None,
    mean_params: str | Path | None = None,
    body: BodyModel | str | Path | None = None,
    joint_set: str | None = None,
    vertices: bool = False,
    adaptive: bool | None = None,
) -> Hybrik:
    """Builds the estimator.

    Args:
        checkpoint: HybrIK's .pth (a state dict, or one under `model`), or a file that save_checkpoint wrote; it
            brings its own SMPL layer. None leaves random weights on `body`.
        mean_params: h36m_mean_beta.npy, the mean shape; only used without a checkpoint.
        body: a BodyModel or a path to SMPL files, used without a checkpoint; None is the embedded body.
        joint_set: "h36m17" (default where the regressor is known) or "smpl24".
        vertices, adaptive: see Hybrik.
    """
    if checkpoint is not None:
        state = read_state(checkpoint)
        model = Hybrik(HybrikBody.like_state(state, checkpoint), joint_set or H36M17.name, vertices, adaptive)
        model.load_checkpoint_state(state, checkpoint)
        return model.eval()
    loaded = body if isinstance(body, BodyModel) else load_body(body, resolution="low")
    known = H36M17.name in loaded.regressors
    if joint_set == H36M17.name and not known:
        raise ConfigError("joint set h36m17 needs the body's regressor J_regressor_h36m.npy", choices=[SMPL24.name])
    default = H36M17.name if known else SMPL24.name
    model = Hybrik(HybrikBody.of_body(loaded), joint_set or default, vertices, adaptive)
    if mean_params is not None:
        path = Path(mean_params).expanduser()
        mean = read_npy(path, "the mean shape", error=CheckpointError).astype(np.float32).reshape(-1)
        if mean.size != 10:
            raise CheckpointError(f"the mean shape has {mean.size} numbers instead of 10", where=mean_params)
        model.network.init_shape.copy_(torch.from_numpy(mean.copy()))
    return model.eval()
