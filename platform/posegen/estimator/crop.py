"""How an estimator wants its person cropped, as a record, and the camera that sees just that.

A person's box is what a benchmark or a scene frames: a square about the person, upright in the picture. A convention
says what an estimator makes of it: how much wider, and turned or not. A picture that is turned about a point, scaled
and shifted is what a rolled camera with another focal length and principal point sees, so rendered pictures follow a
convention exactly, and their labels are those of that camera.

Dimensions: B batch, J joints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from posegen.body.joint_sets import JointSet
from posegen.errors import ConfigError
from posegen.scene import Camera, Estimator, Scene, TellsCrop

OUTSIDE = ("black", "edge")
_SHORT = 1e-6  # a trunk seen along its own axis points nowhere


@dataclass(frozen=True)
class CropConvention:
    """What a crop of a person is for one estimator.

    Attributes:
        size_px: side that it works at.
        margin: side of the crop in units of the person's box, as benchmarks and scenes give it.
        upright: whether the crop is turned about the box's middle until the line from the hips to the shoulders points
            up. Its side then grows or shrinks with the turned person, by at most the square root of 2.
        outside: what stands where a picture ends: "black", or the nearest "edge" pixel. Rendered pictures never end.
        stretch: whether SPIN's contrast stretch is wanted (SPIN utils/imutils.py, by scipy.misc.imresize).
    """

    size_px: int = 224
    margin: float = 1.0
    upright: bool = False
    outside: Literal["black", "edge"] = "black"
    stretch: bool = True

    def __post_init__(self) -> None:
        if self.size_px < 8 or not self.margin > 0:
            raise ConfigError(f"a crop of {self.size_px} px and {self.margin} boxes is none", where="CropConvention")
        if self.outside not in OUTSIDE:
            raise ConfigError(f"unknown outside {self.outside!r}", where="CropConvention", choices=OUTSIDE)

    @property
    def reframes(self) -> bool:
        """Whether a crop differs from the box; where not, pictures and cameras stay as they are, to the bit."""
        return self.upright or self.margin != 1.0

    def describe(self, boxes: str) -> str:
        """Of boxes in a protocol's words: those of the crops."""
        if not self.reframes:
            return boxes
        return f"{boxes}, x {self.margin:g} for the estimator" + (", turned upright" if self.upright else "")

    def camera(self, camera: Camera, joints_m: Tensor, joint_set: JointSet) -> Camera:
        """The camera whose picture is the crop, from one whose whole picture is the person's box.

        Args:
            joints_m: (B,J,3) world. No gradient flows through the turn and the size: they are a choice of the crop.
        """
        if not self.reframes:
            return camera
        with torch.no_grad():
            middle = joints_m.new_tensor([camera.width / 2, camera.height / 2])
            placed = camera.project(joints_m) - middle
            turn, side = self._turn_and_side(placed, joint_set)
        return _turned(camera, turn, 1 / side)

    def scene(self, scene: Scene, joints_m: Tensor, joint_set: JointSet) -> Scene:
        """The scene as the convention's camera sees it."""
        return replace(scene, camera=self.camera(scene.camera, joints_m, joint_set)) if self.reframes else scene

    def turn_and_side(self, joints_cam_m: Tensor, joint_set: JointSet) -> tuple[Tensor, Tensor]:
        """For pictures that exist: the turn (B,2,2) of picture points and the crop's side (B,) in boxes.

        Args:
            joints_cam_m: (B,J,3) m, camera frame, NaN where unknown; taken as seen from far away.
        """
        flat = joints_cam_m[..., :2]
        known = torch.isfinite(flat)
        low = flat.where(known, torch.inf).amin(1, keepdim=True)
        high = flat.where(known, -torch.inf).amax(1, keepdim=True)
        return self._turn_and_side(flat - (low + high) / 2, joint_set)

    def _turn_and_side(self, placed: Tensor, joint_set: JointSet) -> tuple[Tensor, Tensor]:
        """placed (B,J,2): picture points (u right, v down) about the box's middle, any unit."""
        turn = upright_turn(placed, joint_set) if self.upright else torch.eye(2).to(placed).expand(len(placed), 2, 2)
        before, after = (torch.nan_to_num(points).abs().amax((1, 2)) for points in (placed, placed @ turn.mT))
        spread = (after / before.clamp_min(1e-9)).clamp(0.5**0.5, 2**0.5)
        return turn, spread * self.margin


def upright_turn(placed: Tensor, joint_set: JointSet) -> Tensor:
    """The rotation (B,2,2) of picture points (B,J,2) after which the shoulders are straight above the hips.

    It is MediaPipe's rotation of the region of interest (modules/pose_landmark, target angle 90 degrees). The identity
    where both fall on one point or are unknown (NaN).
    """

    def between(left: str, right: str) -> Tensor:
        return (placed[:, joint_set.index(left)] + placed[:, joint_set.index(right)]) / 2

    up = between("left_shoulder", "right_shoulder") - between("left_hip", "right_hip")
    length = up.norm(dim=1, keepdim=True)
    up = torch.where(length > _SHORT, up / length.clamp_min(_SHORT), up.new_tensor([0.0, -1.0]))
    u, v = up.unbind(1)
    return torch.stack([-v, u, -u, -v], 1).view(-1, 2, 2)  # takes (u, v) to (0, -1): v points down


def _turned(camera: Camera, turn: Tensor, zoom: Tensor) -> Camera:
    """The camera that sees another's picture turned (B,2,2) and zoomed (B,) about its middle.

    p' = zoom * turn (p - m) + m, with p = focal * x / z + centre, is again a pinhole's, whose axes are turned about the
    line of sight.
    """
    roll = torch.eye(3).to(turn).repeat(len(turn), 1, 1)
    roll[:, :2, :2] = turn
    middle = camera.centre.new_tensor([camera.width / 2, camera.height / 2])
    centre = zoom[:, None] * (turn @ (camera.centre - middle)[..., None])[..., 0] + middle
    return replace(
        camera,
        R=roll @ camera.R,
        t=(roll @ camera.t[..., None])[..., 0],
        focal=camera.focal * zoom,
        centre=centre,
    )


# MediaPipe modules/pose_landmark: 25 % margin, turned by hips and shoulders, borders repeated, pixels as they are
_BLAZEPOSE = CropConvention(256, margin=1.25, upright=True, outside="edge", stretch=False)
# Of the built-in estimators, so that it is known before their weights are at hand.
DECLARED: dict[str, CropConvention] = {
    "blazepose": _BLAZEPOSE,
    "hmr_small": CropConvention(96),
    "hmr_lite": replace(_BLAZEPOSE, size_px=128),  # whose trunk it has
    "efficientnet": CropConvention(128),
    "spin": CropConvention(224),
    "hybrik": CropConvention(256),
    "callable": CropConvention(224),
    "http": CropConvention(224),
    "onnx": CropConvention(224),
}


def crop_of(estimator: Estimator | None) -> CropConvention:
    """An estimator's convention: what it tells, else the box itself at its size."""
    if isinstance(estimator, TellsCrop):
        return estimator.crop
    return CropConvention() if estimator is None else CropConvention(estimator.image_size)
