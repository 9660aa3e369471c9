"""Scenes around anchors: the arm `anchors`, and what a generator may start from.

An anchor is drawn by its weight; its joints and root get noise, and the camera is drawn around the one that the person
was seen by. Elevation and distance spread as widely as lifting left them open. Everything is a function of the seed
and the row's id.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.body.cameras import BOX_FACTOR, FOCAL_PER_SIDE, frame_person, framing_distance
from posegen.body.model import BodyModel
from posegen.body.rotations import aa_to_matrix, matrix_to_aa, mirror_pose
from posegen.config.schema import PosegenConfig
from posegen.counter import hashed_bits, hashed_choice, hashed_normal, hashed_uniform
from posegen.errors import ConfigError
from posegen.renderer.surroundings.looks import hashed_light
from posegen.scene import Scene
from posegen.scenes.split import SplitPart, part_from_config
from posegen.seeds import derive
from posegen.target.anchors import Anchors, anchors_of
from posegen.target.config import TargetConfig
from posegen.target.lifted import read_lifted

MAX_SPREAD = (0.35, 0.5)  # of elevation (rad) and log distance: what lifting does not know at all stays near the prior
ELEVATION_LIMIT_RAD = 1.4


@dataclass(frozen=True)
class AnchorProposal:
    """ids (N,) int64 -> Scene.

    Args:
        anchors: what scenes are drawn around.
        part: gives bodies, lights and the crop's jitter: the pool, as for every other arm.
        pose_std: (24,3) rad, the pool's spread, the unit of joint noise.
        body: gives joint positions for framing.
        subjects: how many the renderer has.
    """

    anchors: Anchors
    part: SplitPart
    pose_std: Tensor
    body: BodyModel
    subjects: int
    size_px: int
    seed: int
    settings: TargetConfig

    def anchor_of(self, ids: Tensor) -> Tensor:
        """Which anchor (N,) each row is drawn around."""
        return hashed_choice(ids, self._stream("anchor"), self.anchors.weight)

    @torch.no_grad()
    def __call__(self, ids: Tensor) -> Scene:
        n, settings, part = len(ids), self.settings, self.part
        chosen = self.anchors[self.anchor_of(ids)]
        pose = chosen.in_world()
        std = self.pose_std.clamp(0.03, 0.8).clone()
        std[0] = 0.0
        pose = pose + settings.joint_noise * std * hashed_normal(ids, self._stream("joints"), 72).view(n, 24, 3)
        turn = math.radians(settings.root_noise_deg) * hashed_normal(ids, self._stream("root"), 3)
        root = matrix_to_aa(aa_to_matrix(turn) @ aa_to_matrix(pose[:, 0]))
        pose = torch.cat([root[:, None], pose[:, 1:]], 1)
        u = hashed_uniform(ids, self._stream("choices"), 6)
        roll = chosen.roll_rad
        if part.mirror:
            flip = u[:, 0] < 0.5
            pose = torch.where(flip[:, None, None], mirror_pose(pose), pose)
            roll = torch.where(flip, -roll, roll)
        all_betas = part.bodies.betas()
        betas = all_betas[(u[:, 1] * len(all_betas)).long().clamp_max(len(all_betas) - 1)]
        transl = torch.zeros(n, 3)
        joints = self.body.joints(aa_to_matrix(pose), betas, transl)
        normal = hashed_normal(ids, self._stream("camera"), 4)
        wide = chosen.elevation_spread_rad.clamp_max(MAX_SPREAD[0]).square() + math.radians(settings.elevation_deg) ** 2
        elevation = (chosen.elevation_rad + wide.sqrt() * normal[:, 0].clamp(-2, 2)).clamp(
            -ELEVATION_LIMIT_RAD, ELEVATION_LIMIT_RAD)  # fmt: skip
        spread = chosen.log_distance_spread.clamp_max(MAX_SPREAD[1])
        distance = chosen.distance_m * (spread * normal[:, 1].clamp(-2, 2)).exp()
        focal = FOCAL_PER_SIDE * self.size_px
        # A camera inside of the person's sphere shows parts of it: no nearer than 0.6 of the framing distance.
        scale = (distance / framing_distance(joints, focal, self.size_px)).clamp_min(0.6)
        crop = BOX_FACTOR * (1 + part.camera.scale_jitter * (2 * u[:, 2] - 1))
        camera = frame_person(
            joints, math.radians(settings.azimuth_deg) * (2 * u[:, 3] - 1), elevation, roll, focal, self.size_px, scale,
            crop,
        )  # fmt: skip
        shift = part.camera.centre_jitter * normal[:, 2:].clamp(-2, 2)
        camera = type(camera)(
            camera.R, camera.t, camera.focal, camera.centre + shift * self.size_px, camera.height, camera.width
        )
        return Scene(
            pose=pose, betas=betas, transl=transl, camera=camera,
            subject=(u[:, 4] * self.subjects).long().clamp_max(self.subjects - 1),
            light=hashed_light(ids, self._stream("light"), part.ambient),
            background=hashed_bits(ids, self._stream("background"), 1)[:, 0],
        )  # fmt: skip

    def _stream(self, what: str) -> int:
        return derive(self.seed, "anchors", what)


def lifted_anchors(settings: TargetConfig) -> Anchors:
    """The anchors of target.lifted. Raises ConfigError or DataError: also how a run looks at them before it starts."""
    if settings.lifted is None:
        raise ConfigError(
            "the arm 'anchors' needs a lifted target", where="target.lifted",
            next_command="posegen lift target.keypoints=FILE, then target.lifted=FOLDER/lifted.npz",
        )  # fmt: skip
    return anchors_of(read_lifted(settings.lifted), settings.temperature)


def anchor_proposal(config: PosegenConfig, poses: Tensor, body: BodyModel, subjects: int) -> Callable[[Tensor], Scene]:
    """The proposal of the arm `anchors`, from target.lifted.

    Args:
        config: of the experiment.
        poses: (P,24,3) rad, the pool of real poses: its spread is the unit of joint noise.
    """
    part = part_from_config("pool", config.split["parts"]["pool"])
    return AnchorProposal(
        lifted_anchors(config.target), part, poses.std(0), body, subjects, config.image_size, config.seed, config.target
    )
