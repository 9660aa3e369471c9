"""What surrounds the generator: body, renderer, backgrounds, looks, estimator and real poses, all frozen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24
from posegen.body.mocap import Clip, load_clips
from posegen.body.model import BodyModel, load_body
from posegen.body.rotations import aa_to_matrix, matrix_to_aa
from posegen.config.schema import PosegenConfig
from posegen.errors import ConfigError
from posegen.estimator.crop import CropConvention
from posegen.renderer.registry import kind_of
from posegen.renderer.surroundings.backgrounds import Backgrounds
from posegen.renderer.surroundings.looks import Degrade
from posegen.scene import Renderer, Scene
from posegen.scenes.photographer import Photographer
from posegen.scenes.sampler import clip_headings, turn_about_y
from posegen.scenes.split import part_from_config

# Of each embedded clip of the pool at most this many frames are real poses: minutes of climbing would else leave no
# room for seconds of walking.
POOL_FRAMES = 200


@dataclass(frozen=True)
class World:
    """Turns scenes into pictures and labels. Holds no trainable weights."""

    body: BodyModel
    renderer: Renderer
    subjects: int
    backgrounds: Backgrounds
    look: Degrade
    size_px: int
    device: torch.device

    @property
    def photographer(self) -> Photographer:
        return Photographer(self.renderer, self.backgrounds, self.look)

    def picture(self, scene: Scene) -> Tensor:
        """The clean picture (B,3,S,S) in [0,1] before its background; differentiable in the scene."""
        return self.photographer.clean(scene)

    def photograph(self, scene: Scene) -> Tensor:
        """The picture with exposure, blur and noise as drawn from the background's seed (B,3,S,S)."""
        return self.photographer(scene)

    def cropped(self, scene: Scene, crop: CropConvention) -> Scene:
        """The scene seen by the camera that crops the person as an estimator wants it."""
        return crop.scene(scene, self.joints_m(scene), SMPL24) if crop.reframes else scene

    def joints_m(self, scene: Scene) -> Tensor:
        """SMPL joints (B,24,3) m, world; differentiable."""
        return self.body.joints(aa_to_matrix(scene.pose), scene.betas, scene.transl)

    def labels(self, scene: Scene) -> dict[str, Tensor]:
        """What a row says of its picture.

        joints3d_cam_m (B,24,3) camera frame, metres; joints2d_px (B,24,2); pose_cam (B,24,3) rad, with global orient
        in the camera frame.
        """
        joints = self.joints_m(scene)
        orient = matrix_to_aa(scene.camera.R @ aa_to_matrix(scene.pose[:, 0]))
        return {
            "joints3d_cam_m": scene.camera.to_camera(joints),
            "joints2d_px": scene.camera.project(joints),
            "pose_cam": torch.cat([orient[:, None], scene.pose[:, 1:]], 1),
        }


def real_poses(config: PosegenConfig) -> Tensor:
    """The pool of real poses (P,24,3) rad: the pool's clips of the split, or the user's own motion."""
    source = config.mocap.path
    if source:
        clips = load_clips(source=Path(source))
    else:
        clips = [evenly_thinned(clip, POOL_FRAMES) for clip in load_clips(config.split["parts"]["pool"]["clips"])]
    if not clips:
        raise ConfigError("the pool of real poses is empty", where="mocap.path or split.parts.pool.clips")
    return torch.cat([face_front(clip.pose) for clip in clips])


def evenly_thinned(clip: Clip, frames: int) -> Clip:
    """The clip, or `frames` of its frames evenly spread, if it has more."""
    if len(clip) <= frames:
        return clip
    kept = torch.linspace(0, len(clip) - 1, frames).round().long()
    return Clip(clip.name, clip.pose[kept], clip.transl[kept], clip.fps * frames / len(clip))


def face_front(pose: Tensor) -> Tensor:
    """A clip's poses (T,24,3) turned so that it faces +z on average: azimuths then mean the same in every clip."""
    turn = turn_about_y(-clip_headings(pose[:, 0]))
    return torch.cat([matrix_to_aa(turn @ aa_to_matrix(pose[:, :1])), pose[:, 1:]], 1)


def build_renderer(config: PosegenConfig, device: torch.device) -> tuple[Renderer, int]:
    """The renderer of `config.renderer` and how many subjects it has."""
    renderer = kind_of(config.renderer.name).build(config.renderer, device)
    return renderer, len(renderer.subjects)


def build_world(config: PosegenConfig, device: str | torch.device = "cpu") -> World:
    """The world of a configuration."""
    device = torch.device(device)
    renderer, subjects = build_renderer(config, device)
    part = part_from_config("pool", config.split["parts"]["pool"])
    body = load_body(config.body.path, resolution=config.body.resolution).to(device)
    kind_of(config.renderer.name).check_body(renderer, body)
    photos = config.background.photos
    return World(
        body=body.requires_grad_(False),
        renderer=renderer,
        subjects=subjects,
        backgrounds=Backgrounds(part.background.pool, photos, part.background.kinds),
        look=Degrade(part.look, part.background.pool),
        size_px=config.image_size,
        device=device,
    )
