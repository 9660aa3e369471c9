"""The narrow source that the embedded estimator is pre-trained on: everyday motions, level frontal cameras.

Narrow on purpose: it leaves an estimator with weak spots to find, as public data sets do.
Dimensions: N images, S image side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from posegen.body.cameras import crop_to_person, frame_person
from posegen.body.joint_sets import SMPL24
from posegen.body.mocap import Clip, load_clips
from posegen.body.model import BodyModel, load_body
from posegen.body.rotations import aa_to_matrix, mirror_pose
from posegen.body.subjects import TRAIN_SUBJECTS, load_subjects
from posegen.estimator.labels import Labels
from posegen.renderer.backgrounds import Backgrounds
from posegen.renderer.composite import over
from posegen.renderer.looks import random_light
from posegen.renderer.mesh import MeshRenderer
from posegen.scene import Scene, TensorRecord
from posegen.seeds import torch_generator


@dataclass(frozen=True)
class SourceConfig:
    """What the source looks like.

    Attributes:
        clips: names of mocap clips.
        held_out: share at the end of each clip that is only evaluated on, never trained on.
        azimuth_rad, elevation_rad: half-widths about frontal and level.
        roll_rad: half-width.
        distance_scale: smallest and largest distance in units of the one that frames the person.
        joint_noise_rad: standard deviation on every joint's axis-angle but the root's.
        betas_std: of each shape coefficient, clamped at two of it.
        mirror: mirrors half of the poses.
        image_size: px.
        seed: of all that is random.
    """

    clips: tuple[str, ...] = ("walk", "run", "jump")
    held_out: float = 0.15
    azimuth_rad: float = 0.349  # 20 degrees
    elevation_rad: float = 0.087  # 5 degrees
    roll_rad: float = 0.035  # 2 degrees
    distance_scale: tuple[float, float] = (1.0, 1.6)
    crop_factor: tuple[float, float] = (1.12, 1.28)
    joint_noise_rad: float = 0.08
    betas_std: float = 0.7
    mirror: bool = True
    image_size: int = 96
    seed: int = 0
    subjects: tuple[str, ...] = field(default=TRAIN_SUBJECTS)


@dataclass(frozen=True)
class SourceRows(TensorRecord):
    """Rendered images with their labels."""

    images: Tensor  # (N,3,S,S) uint8
    labels: Labels

    def __len__(self) -> int:
        return len(self.images)


def heading_rad(root_matrix: Tensor) -> Tensor:
    """Which way a body faces: the azimuth of its +z axis in the horizontal plane. (N,3,3) -> (N,)."""
    return torch.atan2(root_matrix[:, 0, 2], root_matrix[:, 2, 2])


def split_frames(clips: Sequence[Clip], held_out: float, evaluation: bool) -> list[Tensor]:
    """The poses of each clip that belong to training, or to evaluation: whole blocks in time, so that no frame's
    neighbour is on the other side save at the one border. Each (T,24,3)."""
    parts = []
    for clip in clips:
        cut = round(len(clip.pose) * (1 - held_out))
        parts.append(clip.pose[cut:] if evaluation else clip.pose[:cut])
    return parts


def sample_scenes(
    n: int, clips: Sequence[Clip], body: BodyModel, config: SourceConfig, generator: torch.Generator, evaluation: bool
) -> Scene:
    """n scenes of the source: clips are equally likely, whatever their lengths."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) * 2 - 1

    parts = split_frames(clips, config.held_out, evaluation)
    which = torch.randint(len(parts), (n,), generator=generator)
    where = torch.rand(n, generator=generator)
    pose = torch.stack([parts[c][int(w * len(parts[c]))] for c, w in zip(which.tolist(), where.tolist(), strict=True)])
    noise = torch.randn(n, 24, 3, generator=generator) * config.joint_noise_rad
    noise[:, 0] = 0
    pose = pose + noise
    if config.mirror:
        pose = torch.where(torch.rand(n, 1, 1, generator=generator) < 0.5, mirror_pose(pose), pose)
    betas = (torch.randn(n, 10, generator=generator) * config.betas_std).clamp(
        -2 * config.betas_std, 2 * config.betas_std
    )
    matrices = aa_to_matrix(pose)
    joints = body.joints(matrices, betas)
    low, high = config.distance_scale
    camera = frame_person(
        joints,
        heading_rad(matrices[:, 0]) + uniform(n) * config.azimuth_rad,
        uniform(n) * config.elevation_rad,
        uniform(n) * config.roll_rad,
        size_px=config.image_size,
        distance_scale=low + (high - low) * torch.rand(n, generator=generator),
    )
    low, high = config.crop_factor
    camera = crop_to_person(camera, joints, factor=low + (high - low) * torch.rand(n, generator=generator))
    return Scene(
        pose,
        betas,
        torch.zeros(n, 3),
        camera,
        torch.randint(len(config.subjects), (n,), generator=generator),
        random_light(n, generator),
        torch.randint(2**31, (n,), generator=generator),
    )


def labels_of(scene: Scene, body: BodyModel) -> Labels:
    """The labels of a scene, in the camera frame."""
    matrices = aa_to_matrix(scene.pose)
    joints = body.joints(matrices, scene.betas, scene.transl)
    root = scene.camera.R @ matrices[:, 0]
    crop_px = torch.tensor([scene.camera.width, scene.camera.height])
    return Labels(
        torch.cat([root[:, None], matrices[:, 1:]], 1),
        scene.betas,
        SMPL24.centred(scene.camera.to_camera(joints)),
        scene.camera.project(joints) / crop_px * 2 - 1,
    )


@torch.no_grad()
def render_source(
    n: int,
    config: SourceConfig,
    evaluation: bool = False,
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> SourceRows:
    """n mesh renders of the source, deterministic in config.seed.

    Args:
        evaluation: held-out frames and other random numbers.
        progress: called with rows done and rows in all.
    """
    generator = torch_generator(config.seed, "source", "held out" if evaluation else "train")
    body = load_body(resolution="low")
    clips = load_clips(config.clips)
    renderer = MeshRenderer(load_subjects(config.subjects))
    backgrounds = Backgrounds("train")
    rows = []
    for start in range(0, n, batch):
        scene = sample_scenes(min(batch, n - start), clips, body, config, generator, evaluation)
        image = over(*renderer(scene), backgrounds(scene))
        rows.append(SourceRows((image.clamp(0, 1) * 255).round().to(torch.uint8), labels_of(scene, body)))
        if progress:
            progress(start + len(scene), n)
    return SourceRows.cat(rows)
