"""Posed views of one subject to fit a field to: rendered from a mesh here, or read from files (fit_folder.py)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from posegen.body.cameras import frame_person
from posegen.body.dressed import DressedSubject
from posegen.body.kinematics import forward_kinematics
from posegen.body.mocap import load_clips
from posegen.body.model import sample_betas
from posegen.body.rotations import aa_to_matrix, matrix_to_aa, random_rotation
from posegen.renderer.field.volumes import SkinnedMesh, rest_joints
from posegen.renderer.mesh import MeshRenderer
from posegen.renderer.surroundings.looks import random_light
from posegen.scene import Scene
from posegen.seeds import torch_generator

POOL_CLIPS = ("walk", "run", "jump", "punch", "getup_faceup")
Progress = Callable[[str, int, int], None]  # what, done, of how many


@dataclass(frozen=True)
class FitViews:
    """Pictures of one subject with everything known about them. V views."""

    scene: Scene  # of length V; subject 0
    rgb: Tensor  # (V,3,H,W) premultiplied by alpha
    alpha: Tensor  # (V,1,H,W)

    def __len__(self) -> int:
        return len(self.rgb)

    def pick(self, index: Tensor) -> FitViews:
        return FitViews(self.scene[index], self.rgb[index], self.alpha[index])

    def to(self, device: torch.device) -> FitViews:
        return FitViews(self.scene.to(device), self.rgb.to(device), self.alpha.to(device))

    def halved(self) -> FitViews:
        """The same views at half the resolution (rows and columns that are left over are cut off)."""
        camera = self.scene.camera
        camera = replace(
            camera, focal=camera.focal / 2, centre=camera.centre / 2, height=camera.height // 2, width=camera.width // 2
        )
        return FitViews(replace(self.scene, camera=camera), F.avg_pool2d(self.rgb, 2), F.avg_pool2d(self.alpha, 2))


def subject_mesh(subject: DressedSubject) -> SkinnedMesh:
    """What volumes are placed around."""
    return SkinnedMesh(
        subject.template, subject.shapedirs, subject.weights, subject.rest_template, subject.rest_directions
    )


def mesh_scene(
    subject: DressedSubject,
    count: int,
    size_px: int,
    seed: int,
    split: str,
    clips: Sequence[str] = POOL_CLIPS,
    joint_noise_rad: float = 0.12,
) -> Scene:
    """Scenes for a fit: poses of motion clips with noise on every joint, turned at random; views from all around.

    Args:
        split: "train" or "held_out"; they draw from alternating seconds of the clips, with other noise, betas,
            cameras and lights.
    """
    generator = torch_generator(seed, "fit", subject.name, split)
    pool = []
    for clip in load_clips(clips):
        second = torch.arange(len(clip)) / clip.fps
        odd = second.long() % 2 == 1
        pool.append(clip.pose[odd if split == "held_out" and bool(odd.any()) else ~odd])
    poses = torch.cat(pool)
    pose = poses[torch.randint(len(poses), (count,), generator=generator)]
    noise = joint_noise_rad * torch.randn(count, 24, 3, generator=generator)
    pose = matrix_to_aa(aa_to_matrix(pose) @ aa_to_matrix(noise))
    turn = matrix_to_aa(random_rotation((count,), generator))
    pose[:, 0] = torch.where(torch.rand(count, 1, generator=generator) < 0.25, turn, pose[:, 0])
    betas = sample_betas(count, generator)
    rest = rest_joints(subject.rest_template, subject.rest_directions, betas)
    _, joints = forward_kinematics(aa_to_matrix(pose), rest)
    azimuth = 2 * math.pi * torch.rand(count, generator=generator)
    elevation = torch.asin(1.4 * torch.rand(count, generator=generator) - 0.6)
    roll = 0.2 * torch.randn(count, generator=generator)
    distance = 1 + torch.rand(count, generator=generator)
    camera = frame_person(joints, azimuth, elevation, roll, size_px=size_px, distance_scale=distance)
    return Scene(
        pose, betas, torch.zeros(count, 3), camera, torch.zeros(count, dtype=torch.int64),
        random_light(count, generator), torch.full((count,), -1),
    )  # fmt: skip


def render_views(
    subject: DressedSubject, scene: Scene, supersampling: int, progress: Progress | None = None, chunk: int = 16
) -> FitViews:
    """The reference renderer's pictures of a scene."""
    renderer = MeshRenderer([subject], supersampling)
    rgb, alpha = [], []
    for start in range(0, len(scene), chunk):
        if progress is not None:
            progress(f"{subject.name}: rendering views", start, len(scene))
        part = renderer(scene[start : start + chunk])
        rgb.append(part[0])
        alpha.append(part[1])
    return FitViews(replace(scene), torch.cat(rgb), torch.cat(alpha))
