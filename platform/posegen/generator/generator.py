"""The generator: noise to pose, camera and look (PoseGen section 3; the released camera head's output was unused)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posegen.body.cameras import FOCAL_PER_SIDE, frame_person, framing_distance
from posegen.body.model import BodyModel
from posegen.body.outline import Outline
from posegen.body.rotations import aa_to_matrix, matrix_to_rot6d
from posegen.errors import ConfigError
from posegen.generator.config import GeneratorConfig
from posegen.generator.draws import CAMERA_PARAMETERS, Draw
from posegen.noise import Noise
from posegen.scene import Camera, Light, Scene, TensorRecord
from posegen.scenes.sampler import azimuth_on_lattice
from posegen.scenes.split import CameraRange

HEADS = ("residual", "direct")
NEAREST = 0.6  # of the framing distance: a camera nearer than that shows parts of a person


@dataclass(frozen=True)
class Generated(TensorRecord):
    """Scenes with what the losses need to know of how they came about."""

    scene: Scene
    residual: Tensor  # (n,) mean square of the learned changes, each relative to its bound
    action: Tensor  # (n, A) the network's bounded outputs for pose and camera: the score function's mean


class Generator(nn.Module):
    """Maps draws to scenes.

    LayerNorm in place of the release's BatchNorm: a row's scene must not depend on the batch it is made in.

    Args:
        config: bounds and sizes.
        noise: the distribution whose raw draws arrive in `Draw.noise`; its parameters, if any, are trained too.
        pose_std: (24,3) rad, the pool's spread; the unit of joint noise and residual.
        body: gives joint positions for framing the camera.
        ranges: where cameras may be.
        size_px: side of the image.
    """

    pose_std: Tensor

    def __init__(
        self,
        config: GeneratorConfig,
        noise: Noise,
        pose_std: Tensor,
        body: BodyModel,
        ranges: CameraRange,
        size_px: int,
    ) -> None:
        super().__init__()
        if config.pose_head not in HEADS:
            raise ConfigError(f"unknown pose head {config.pose_head!r}", where="generator.pose_head", choices=HEADS)
        self.config, self.ranges, self.size_px = config, ranges, size_px
        self.noise = noise
        self._body = [body]  # in a list: frozen, and not part of the state dict
        self._outline = Outline(body) if ranges.box == "surface" else None  # what the crop holds
        std = pose_std.clamp(0.03, 0.8).clone()
        std[0] = 0.0  # global orient belongs to the anchor and, within root_range_rad, to its own bound
        self.register_buffer("pose_std", std)
        self.n_camera = len(CAMERA_PARAMETERS)
        inputs = noise.dim + 24 * 6 + 24 * 3 + self.n_camera
        layers: list[nn.Module] = []
        for i in range(config.layers):
            layers += [nn.Linear(inputs if i == 0 else config.hidden, config.hidden), nn.LayerNorm(config.hidden)]
            layers += [nn.LeakyReLU(0.2)]
        self.trunk = nn.Sequential(*layers)
        self.pose = nn.Linear(config.hidden, 24 * (3 if config.pose_head == "residual" else 4))
        self.look = nn.Linear(config.hidden, self.n_camera + 3 + 10 + 3)  # camera, root, betas, light
        gain = 0.05 if config.pose_head == "residual" else 1.0
        for head, scale in ((self.pose, gain), (self.look, 0.05)):
            nn.init.normal_(head.weight, std=scale / math.sqrt(config.hidden))
            nn.init.zeros_(head.bias)

    def forward(self, draw: Draw, explore: float = 0.0, shift: float = 1.0) -> Generated:
        """Makes scenes of n draws; differentiable in the parameters.

        Args:
            draw: n draws on the module's device.
            shift: factor on every learned change: 0 gives the unshifted proposal, the random baseline.
            explore: standard deviation of the exploration added to pose and camera outputs (score function only).
        """
        cfg = self.config
        anchor6 = matrix_to_rot6d(aa_to_matrix(draw.anchor)).flatten(1)
        if cfg.pose_head == "direct":
            anchor6 = torch.zeros_like(anchor6)  # the paper's generator sees noise alone
        hidden = self.trunk(
            torch.cat([self.noise(draw.noise), anchor6, draw.joints.flatten(1), draw.camera * 2 - 1], 1)
        )
        raw_pose = self.pose(hidden)
        raw_camera, raw_root, raw_betas, raw_light = self.look(hidden).split([self.n_camera, 3, 10, 3], 1)
        raw_pose3 = raw_pose[:, :72]
        action = torch.cat([raw_pose3, raw_camera], 1)
        if explore:
            moved = action + explore * draw.explore
            raw_pose = torch.cat([moved[:, :72], raw_pose[:, 72:]], 1)
            raw_camera = moved[:, 72:]

        pose, pose_change = self._pose(draw, raw_pose, raw_root, shift)
        unit = shift * torch.tanh(raw_camera)
        betas_change = shift * torch.tanh(raw_betas)
        betas = draw.betas + cfg.betas_range * betas_change
        light_change = shift * torch.tanh(raw_light)
        light = Light(
            F.normalize(draw.light.direction + cfg.light_range * light_change, dim=1),
            draw.light.ambient,
            draw.light.diffuse,
        )
        transl = torch.zeros(len(draw), 3, device=pose.device, dtype=pose.dtype)
        body = self._body[0]
        rotations = aa_to_matrix(pose)
        joints = body.joints(rotations, betas, transl)
        held = self._outline(rotations, betas, transl) if self._outline is not None else joints
        camera = self._camera(draw, unit, joints, held)
        scene = Scene(pose, betas, transl, camera, draw.subject, light, draw.background)
        changes = [pose_change.square().mean(1), unit.square().mean(1), betas_change.square().mean(1)]
        return Generated(scene, torch.stack(changes, 1).mean(1), action)

    def _pose(self, draw: Draw, raw: Tensor, raw_root: Tensor, shift: float) -> tuple[Tensor, Tensor]:
        cfg = self.config
        if cfg.pose_head == "direct":
            axis, angle = raw.view(-1, 24, 4).split([3, 1], 2)
            change = torch.tanh(angle)
            pose = F.normalize(axis, dim=2, eps=1e-4) * change * math.pi
            return torch.cat([draw.anchor[:, :1], pose[:, 1:]], 1), change.flatten(1)
        change = shift * torch.tanh(raw.view(-1, 24, 3))
        pose = draw.anchor + self.pose_std * (cfg.pose_noise * draw.joints + cfg.pose_range * change)
        root = pose[:, :1] + cfg.root_range_rad * shift * torch.tanh(raw_root)[:, None]
        return torch.cat([root, pose[:, 1:]], 1), change.flatten(1)

    def _camera(self, draw: Draw, unit: Tensor, joints_m: Tensor, held_m: Tensor) -> Camera:
        """Uniform in the split's ranges or in the draw's own, shifted by the network in the logit, so that the ranges
        are never left."""
        cfg, ranges = self.config, self.ranges
        column = {name: index for index, name in enumerate(CAMERA_PARAMETERS)}
        share = torch.sigmoid(torch.logit(draw.camera) + cfg.camera_range * unit)

        def between(name: str, low: float | Tensor, high: float | Tensor) -> Tensor:
            return low + (high - low) * share[:, column[name]]

        def between_log(name: str, limits: tuple[float, float]) -> Tensor:
            return limits[0] * (limits[1] / limits[0]) ** share[:, column[name]]

        azimuth = self._azimuth_rad(draw.camera[:, column["azimuth"]], unit[:, column["azimuth"]])
        elevation: tuple[Any, Any] = ranges.elevation_deg
        roll: tuple[Any, Any] = ranges.roll_deg
        focal = FOCAL_PER_SIDE * self.size_px * between_log("focal", ranges.focal_scale)
        distance = between_log("distance", ranges.distance_scale)
        if draw.view is not None:
            view = draw.view
            low, high = view.bounds("azimuth_deg", (0.0, 0.0))
            azimuth = torch.where(view.given, torch.deg2rad(between("azimuth", low, high)), azimuth)
            elevation = view.bounds("elevation_deg", elevation)
            roll = view.bounds("roll_deg", roll)
            near, far = view.bounds("distance_m", (1.0, 1.0))
            metres = near * (far / near) ** share[:, column["distance"]]
            framing = framing_distance(joints_m.detach(), focal, self.size_px)
            distance = torch.where(view.given, (metres / framing).clamp_min(NEAREST), distance)
        camera = frame_person(
            joints_m,
            azimuth,
            torch.deg2rad(between("elevation", *elevation)),
            torch.deg2rad(between("roll", *roll)),
            focal,
            self.size_px,
            distance,
            ranges.box_factor * between("crop", 1 - ranges.scale_jitter, 1 + ranges.scale_jitter),
            held_m,
        )
        jitter = 2 * ranges.centre_jitter
        shift = torch.stack([between("shift_u", -jitter, jitter), between("shift_v", -jitter, jitter)], 1)
        return replace(camera, centre=camera.centre + shift * self.size_px)

    def _azimuth_rad(self, uniform: Tensor, unit: Tensor) -> Tensor:
        """(n,) uniform draws and learned shifts -> (n,) azimuths in one of the split's ranges, on its lattice."""
        ranges = self.ranges.azimuth_deg
        scaled = uniform * len(ranges)
        which = scaled.long().clamp_max(len(ranges) - 1)
        low, high = torch.tensor(ranges, dtype=unit.dtype, device=unit.device)[which].unbind(-1)
        inside = (scaled - which).clamp(1e-4, 1 - 1e-4)
        bounded = low + (high - low) * torch.sigmoid(torch.logit(inside) + self.config.camera_range * unit)
        # A full circle has no ends: there the shift turns the camera instead.
        turned = low + 360 * inside + math.degrees(self.config.azimuth_range_rad) * unit
        azimuth = torch.where(high - low >= 360, turned, bounded)
        return torch.deg2rad(azimuth_on_lattice(azimuth, self.ranges.lattice))
