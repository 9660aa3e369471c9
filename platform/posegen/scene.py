"""The records that cross the borders between stages.

Frames and units. World and body: metres, y up, the SMPL rest body faces +z with its left at +x. Camera: OpenCV axes
(x right, y down, z forward); `R`, `t` map world to camera, x_cam = R x_world + t. Pixels: u right, v down, the centre
of the first pixel is (0.5, 0.5); u = focal * x / z + centre_u.

Dimensions: B batch, J joints, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from posegen.body.skeleton import Skeleton
    from posegen.estimator.crop import CropConvention

Self = TypeVar("Self", bound="TensorRecord")


class TensorRecord:
    """Batch operations shared by the frozen dataclasses of tensors below (fields that are no tensors are carried)."""

    def _map(self: Self, function) -> Self:
        changed: dict[str, Any] = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = function(value)
            elif isinstance(value, TensorRecord):
                changed[field.name] = value._map(function)
        return replace(self, **changed)  # type: ignore[type-var]

    def to(self: Self, *args, **kwargs) -> Self:
        """Moves all tensors to a device. A floating dtype is applied to floating tensors only."""

        def move(tensor: Tensor) -> Tensor:
            if tensor.is_floating_point():
                return tensor.to(*args, **kwargs)
            device = torch.empty(0).to(*args, **kwargs).device
            return tensor.to(device)

        return self._map(move)

    def detach(self: Self) -> Self:
        return self._map(lambda tensor: tensor.detach())

    def __getitem__(self: Self, index) -> Self:
        """Selects along the batch dimension; an integer keeps it (length 1)."""
        if isinstance(index, int):
            index = slice(index, index + 1) if index != -1 else slice(index, None)
        return self._map(lambda tensor: tensor[index])

    @classmethod
    def cat(cls: type[Self], records: Sequence[Self]) -> Self:
        """Concatenates along the batch dimension. Fields that are no tensors are taken from the first record."""
        first = records[0]
        changed: dict[str, Any] = {}
        for field in fields(first):  # type: ignore[arg-type]
            values = [getattr(record, field.name) for record in records]
            if isinstance(values[0], Tensor):
                changed[field.name] = torch.cat(values)
            elif isinstance(values[0], TensorRecord):
                changed[field.name] = type(values[0]).cat(values)
            elif any(value != values[0] for value in values):
                raise ValueError(f"cannot concatenate: {field.name} differs: {sorted(map(str, values))}")
        return replace(first, **changed)  # type: ignore[type-var]


@dataclass(frozen=True)
class Camera(TensorRecord):
    """A pinhole camera for each item of a batch.

    Example:
        >>> import torch
        >>> from posegen import Camera
        >>> camera = Camera(torch.eye(3)[None], torch.tensor([[0.0, 0.0, 4.0]]), torch.tensor([100.0]),
        ...                 torch.tensor([[48.0, 48.0]]), height=96, width=96)
        >>> camera.project(torch.tensor([[[1.0, 0.0, 0.0]]]))  # 1 m to the right, 4 m away
        tensor([[[73., 48.]]])
    """

    R: Tensor  # (B,3,3) world -> camera
    t: Tensor  # (B,3) m
    focal: Tensor  # (B,) px
    centre: Tensor  # (B,2) px
    height: int  # px
    width: int  # px

    def __len__(self) -> int:
        return len(self.R)

    def to_camera(self, points_m: Tensor) -> Tensor:
        """World points (B,N,3) m to camera points (B,N,3) m."""
        return points_m @ self.R.transpose(-1, -2) + self.t[:, None]

    def project(self, points_m: Tensor, min_depth_m: float = 1e-3) -> Tensor:
        """World points (B,N,3) m to pixels (B,N,2); depth is clamped from below so that nothing is infinite."""
        cam = self.to_camera(points_m)
        depth = cam[..., 2:].clamp_min(min_depth_m)
        return cam[..., :2] / depth * self.focal[:, None, None] + self.centre[:, None]

    def resized(self, height: int, width: int) -> Camera:
        """The same view at another resolution (the aspect ratio must stay)."""
        scale = width / self.width
        if abs(height / self.height - scale) > 1e-6:
            raise ValueError(f"aspect ratio changes: {self.height}x{self.width} -> {height}x{width}")
        return replace(self, focal=self.focal * scale, centre=self.centre * scale, height=height, width=width)


@dataclass(frozen=True)
class Light(TensorRecord):
    """One directional light and an ambient term: shade = ambient + diffuse * max(0, n . direction).

    Example:
        >>> from posegen import Light
        >>> Light.default(batch=2).as_numbers().shape
        torch.Size([2, 5])
    """

    direction: Tensor  # (B,3) unit, world, from the surface towards the light
    ambient: Tensor  # (B,) in [0,1]
    diffuse: Tensor  # (B,) in [0,1]

    def __len__(self) -> int:
        return len(self.direction)

    def as_numbers(self) -> Tensor:
        """(B,5): direction, ambient, diffuse; how a light is stored as a label."""
        return torch.cat([self.direction, self.ambient[:, None], self.diffuse[:, None]], 1)

    @staticmethod
    def default(batch: int) -> Light:
        """A soft light from above, in front and to the left."""
        direction = torch.nn.functional.normalize(torch.tensor([0.4, 0.8, 0.5]), dim=0)
        return Light(direction.expand(batch, 3).clone(), torch.full((batch,), 0.55), torch.full((batch,), 0.45))


@dataclass(frozen=True)
class Scene(TensorRecord):
    """Everything a renderer needs to know: one posed, lit person before a background, seen by a camera.

    Example:
        >>> import torch
        >>> from posegen import Light, Scene, look_at_camera
        >>> camera = look_at_camera(azimuth_rad=torch.tensor([0.0, 1.6]), elevation_rad=0.2, distance_m=4.0, size_px=96)
        >>> plain = torch.full((2,), -1)
        >>> scene = Scene(torch.zeros(2, 24, 3), torch.zeros(2, 10), torch.zeros(2, 3), camera, torch.zeros(2).long(),
        ...               Light.default(2), plain)
        >>> len(scene), len(scene[1]), Scene.cat([scene, scene[0]]).pose.shape
        (2, 1, torch.Size([3, 24, 3]))
    """

    pose: Tensor  # (B,24,3) axis-angle rad, SMPL joint order; pose[:, 0] is global orient
    betas: Tensor  # (B,10)
    transl: Tensor  # (B,3) m, world
    camera: Camera
    subject: Tensor  # (B,) int64, index into the renderer's subjects
    light: Light
    background: Tensor  # (B,) int64 seed of a background; -1 leaves it plain white

    def __len__(self) -> int:
        return len(self.pose)


@dataclass(frozen=True)
class Prediction(TensorRecord):
    """What an estimator says of a batch of images, in the camera frame (OpenCV axes).

    Example:
        >>> import torch
        >>> from posegen import Prediction
        >>> Prediction(joints=torch.zeros(4, 17, 3), joint_set="coco17")[0].joints.shape
        torch.Size([1, 17, 3])
    """

    joints: Tensor  # (B,J,3) m, centred on the root of the joint set
    joint_set: str  # a name in posegen.body.joint_sets.JOINT_SETS
    rotations: Tensor | None = None  # (B,24,3,3) SMPL, global orient in the camera frame
    betas: Tensor | None = None  # (B,10)
    camera: Tensor | None = None  # (B,3) weak-perspective s, tx, ty in crop units (-1..1)
    vertices: Tensor | None = None  # (B,V,3) m, centred like joints

    def __len__(self) -> int:
        return len(self.joints)


@runtime_checkable
class Renderer(Protocol):
    """Renders a scene without its background; differentiable in pose, betas, transl and camera."""

    @property
    def subjects(self) -> Sequence[object]:
        """The people that it can show, often their names: what `scene.subject` counts in."""
        ...

    def __call__(self, scene: Scene) -> tuple[Tensor, Tensor]:
        """Returns rgb (B,3,H,W) in [0,1], premultiplied by alpha, and alpha (B,1,H,W) in [0,1]."""
        ...


@runtime_checkable
class Estimator(Protocol):
    """Predicts 3D joints from square person crops."""

    name: str
    joint_set: str
    differentiable: bool  # whether a gradient reaches the images
    image_size: int  # px, side the estimator works at; it resizes and normalises by itself

    def __call__(self, images: Tensor) -> Prediction:
        """images (B,3,S,S) RGB in [0,1] -> Prediction."""
        ...


# What an estimator may tell of itself beyond that; each part by itself. Who asks has a default for those that do not.


@runtime_checkable
class TellsBody(Protocol):
    """Predicts rotations and betas of a body that it tells; without it only joints are taught."""

    skeleton: Skeleton


@runtime_checkable
class HoldsBody(Protocol):
    """Poses its predictions with a body of its own; without it a body at hand with its skeleton is taken."""

    body: nn.Module


# What a body may tell beyond posing itself, each part by itself: an estimator may bring a body of its own.


@runtime_checkable
class TellsRegressors(Protocol):
    """Joints of other sets are regressed from its vertices: name -> (J,V)."""

    @property
    def regressors(self) -> Mapping[str, Tensor]: ...


@runtime_checkable
class TellsFaces(Protocol):
    """A mesh that can be told from others by its faces (F,3)."""

    faces: Tensor


@runtime_checkable
class ChoosesJointSet(Protocol):
    """Can be told which joints to predict."""

    def choose_joint_set(self, name: str) -> None:
        """A name in posegen.body.joint_sets.JOINT_SETS."""
        ...


@runtime_checkable
class TellsCrop(Protocol):
    """Wants its person cropped in a way of its own; without it crops are the person's boxes."""

    crop: CropConvention


@runtime_checkable
class TellsLearningRate(Protocol):
    """Recommends what finetune.learning_rate is unless given."""

    learning_rate: float


@runtime_checkable
class TellsOptimiser(Protocol):
    """Recommends what finetune.optimiser and finetune.guard_every are unless given."""

    optimiser: str
    guard_every: int
