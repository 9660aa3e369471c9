"""Scenes out of one part of a split, by id: the same id gives the same scene on any worker, in any batch.

`SceneSampler(split["source"])(ids, seed)` is what the embedded benchmarks, the rows of the source's own kind and the
pre-training draw from. Arms draw through the generator's draws (posegen.generator.draws), learned or not.

Dimensions: N ids, F frames of all clips together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from posegen.body.cameras import BOX_FACTOR, FOCAL_PER_SIDE, frame_person
from posegen.body.joint_sets import SMPL24
from posegen.body.rotations import aa_to_matrix, matrix_to_aa, mirror_pose
from posegen.counter import hashed_bits, hashed_normal, hashed_uniform
from posegen.errors import DataError
from posegen.estimator.crop import CropConvention
from posegen.renderer.surroundings.looks import hashed_light
from posegen.scene import Camera, Light, Scene, TensorRecord
from posegen.scenes.split import (
    SECTOR_DEG,
    SECTOR_GAP_DEG,
    WINDOW_GAP_S,
    WINDOW_S,
    CameraRange,
    SplitPart,
)
from posegen.seeds import derive

if TYPE_CHECKING:
    from posegen.body.mocap import Clip
    from posegen.body.model import BodyModel

EMBEDDED_SIZE_PX = 96


@dataclass(frozen=True)
class SceneDraw(TensorRecord):
    """A batch of scenes and what they were drawn from."""

    scene: Scene
    joints_m: Tensor  # (N,24,3) world
    clip: Tensor  # (N,) int64, index into the part's clips
    frame: Tensor  # (N,) int64, in the clip
    body: Tensor  # (N,) int64, index into the part's bodies
    azimuth_rad: Tensor  # (N,) of the camera round the clip's heading
    elevation_rad: Tensor  # (N,)


def clip_headings(root_aa: Tensor) -> Tensor:
    """The mean heading of a clip, rad: the yaw in which the subject faces most. root_aa (T,3) -> scalar."""
    forward = aa_to_matrix(root_aa)[..., 2]  # where the body's +z axis points
    return torch.atan2(forward[:, 0].mean(), forward[:, 2].mean())


def turn_about_y(angle_rad: Tensor) -> Tensor:
    """(...) -> (...,3,3): a rotation that adds `angle_rad` to every heading."""
    zero = torch.zeros_like(angle_rad)
    return aa_to_matrix(torch.stack([zero, angle_rad, zero], -1))


def frames_shown(frames: int, fps: float, windows: str) -> Tensor:
    """(F,) int64: which frames of a clip lie in half seconds with even or odd numbers, WINDOW_GAP_S off their borders.

    A frame of an even window is thus at least twice that away from any of an odd one; "any" shows all.
    """
    number = torch.arange(frames)
    if windows == "any":
        return number
    seconds = number.double() / fps
    window = torch.floor(seconds / WINDOW_S + 1e-9)
    inside = seconds - window * WINDOW_S
    kept = (inside >= WINDOW_GAP_S - 1e-9) & (inside <= WINDOW_S - WINDOW_GAP_S + 1e-9)
    return number[kept & (window.remainder(2) == (0 if windows == "even" else 1))]


def azimuth_on_lattice(azimuth_deg: Tensor, lattice: str) -> Tensor:
    """Moves azimuths (N,) into the sectors of a lattice, at most one sector away.

    Sectors are SECTOR_DEG wide. Those with an even number belong to "even", the others to "odd"; SECTOR_GAP_DEG at
    either end of a sector stays empty, so azimuths of the two lattices are at least twice that apart.
    """
    if lattice == "any":
        return azimuth_deg
    sector = torch.floor(azimuth_deg / SECTOR_DEG)
    inside = azimuth_deg / SECTOR_DEG - sector
    wrong = sector.remainder(2) != (0 if lattice == "even" else 1)
    sector = torch.where(wrong, sector - torch.sign(azimuth_deg + 1e-6), sector)
    margin = SECTOR_GAP_DEG / SECTOR_DEG
    return (sector + margin + (1 - 2 * margin) * inside) * SECTOR_DEG


@dataclass(frozen=True)
class CameraDraw:
    """Angles and lens of each camera before it is framed on a person."""

    azimuth_rad: Tensor  # (N,)
    elevation_rad: Tensor
    roll_rad: Tensor
    distance_scale: Tensor
    focal_px: Tensor
    centre_shift: Tensor  # (N,2) in sides
    crop_scale: Tensor


def draw_cameras(ranges: CameraRange, ids: Tensor, stream: int, size_px: int) -> CameraDraw:
    """The camera of each id (N,). Distances and focal lengths are uniform in their logarithm."""
    u = hashed_uniform(ids, derive(stream, "camera"), 7)
    choices = torch.tensor(ranges.azimuth_deg, device=ids.device)
    low, high = choices[(u[:, 0] * len(choices)).long().clamp_max(len(choices) - 1)].unbind(-1)

    def between(limits: tuple[float, float], column: int) -> Tensor:
        return limits[0] + (limits[1] - limits[0]) * u[:, column]

    def between_log(limits: tuple[float, float], column: int) -> Tensor:
        return limits[0] * (limits[1] / limits[0]) ** u[:, column]

    azimuth = azimuth_on_lattice(low + (high - low) * u[:, 1], ranges.lattice)
    shift = ranges.centre_jitter * hashed_normal(ids, derive(stream, "crop"), 2).clamp(-2, 2)
    return CameraDraw(
        torch.deg2rad(azimuth),
        torch.deg2rad(between(ranges.elevation_deg, 2)),
        torch.deg2rad(between(ranges.roll_deg, 3)),
        between_log(ranges.distance_scale, 4),
        between_log(ranges.focal_scale, 5) * FOCAL_PER_SIDE * size_px,
        shift,
        1 + ranges.scale_jitter * (2 * u[:, 6] - 1),
    )


def frame_cameras(
    draw: CameraDraw, joints_m: Tensor, size_px: int, factor: float = BOX_FACTOR, held_m: Tensor | None = None
) -> Camera:
    """Cameras (N) of a draw on the people with posed joints (N,24,3), cropped to `factor` times the square around them.

    Args:
        held_m: (N,V,3) what the crop holds instead of the joints, world.
    """
    camera = frame_person(
        joints_m,
        draw.azimuth_rad,
        draw.elevation_rad,
        draw.roll_rad,
        draw.focal_px,
        size_px,
        draw.distance_scale,
        factor * draw.crop_scale,
        held_m,
    )
    return replace(camera, centre=camera.centre + draw.centre_shift * size_px)


class SceneSampler:
    """Draws scenes of one part of a split.

    Args:
        part: what to draw from.
        n_subjects: how many of the part's subjects to use; None is all. `scene.subject` counts within the part.
        clips, body: those of the embedded assets unless given.
        size_px: side of the pictures.
        crop: how an estimator wants the person cropped; None is the person's box.
        device: where ids and scenes are; a scene is the same on each, but for the last digits.
    """

    def __init__(
        self,
        part: SplitPart,
        n_subjects: int | None = None,
        *,
        clips: Sequence[Clip] | None = None,
        body: BodyModel | None = None,
        size_px: int = EMBEDDED_SIZE_PX,
        crop: CropConvention | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        if clips is None:
            from posegen.body.mocap import load_clips

            clips = load_clips(list(part.clips))
        if body is None:
            from posegen.body.model import load_body

            body = load_body(resolution="low")
        device = torch.device(device)
        if not clips or any(len(clip.pose) == 0 for clip in clips):
            raise DataError("a clip without frames", where=part.name, next_command="posegen assets")
        self.part = part
        self.body = body.to(device)
        self.size_px = size_px
        self.crop = CropConvention(size_px) if crop is None else crop
        self.n_subjects = len(part.subjects) if n_subjects is None else min(n_subjects, len(part.subjects))
        self.clip_names = tuple(clip.name for clip in clips)
        self.betas = part.bodies.betas().to(device)
        self.fps = torch.tensor([clip.fps for clip in clips])
        shown = [frames_shown(len(clip), clip.fps, part.windows) for clip in clips]
        if empty := [clip.name for clip, frames in zip(clips, shown, strict=True) if not len(frames)]:
            raise DataError(f"the clip {empty[0]} has no frame in {part.windows} half seconds", where=part.name)
        self._shown = torch.cat(shown).to(device)  # frames of all clips that may be drawn, clip after clip
        self._lengths = torch.tensor([len(frames) for frames in shown], device=device)
        self._firsts = self._lengths.cumsum(0) - self._lengths
        frames = torch.tensor([len(clip.pose) for clip in clips], device=device)
        self._starts = frames.cumsum(0) - frames
        easy = [index for index, name in enumerate(self.clip_names) if name in part.easy]
        self._halves = [half for half in (easy, [i for i in range(len(clips)) if i not in easy]) if half]
        poses, heights = [], []
        for clip in clips:
            turn = turn_about_y(-clip_headings(clip.pose[:, 0]))
            root = matrix_to_aa(turn @ aa_to_matrix(clip.pose[:, 0]))
            poses.append(torch.cat([root[:, None], clip.pose[:, 1:]], 1))
            heights.append(clip.transl[:, 1])
        self._poses = torch.cat(poses).to(device)  # (F,24,3), each clip facing +z on average
        self._heights = torch.cat(heights).to(
            device
        )  # (F,) m; where a clip walks to does not matter, the camera follows

    def draw(self, ids: Tensor, seed: int) -> SceneDraw:
        """ids (N,) int64 -> scenes and their origins; a function of id, seed and part alone."""
        n = len(ids)
        stream = derive(seed, "scene", self.part.name)
        u = hashed_uniform(ids, derive(stream, "frame"), 5)
        clip = self._clips(u[:, 0])
        frame = torch.minimum((u[:, 1] * self._lengths[clip]).long(), self._lengths[clip] - 1)
        frame = self._shown[self._firsts[clip] + frame]
        subject = (u[:, 2] * self.n_subjects).long().clamp_max(self.n_subjects - 1)
        body = (u[:, 3] * len(self.betas)).long().clamp_max(len(self.betas) - 1)
        pose = self._poses[self._starts[clip] + frame]
        if self.part.joint_noise_deg > 0:
            sigma = math.radians(self.part.joint_noise_deg)
            jitter = sigma * hashed_normal(ids, derive(stream, "joints"), 72).reshape(n, 24, 3)
            pose = matrix_to_aa(aa_to_matrix(jitter) @ aa_to_matrix(pose))
        if self.part.mirror:
            pose = torch.where((u[:, 4] < 0.5)[:, None, None], mirror_pose(pose), pose)
        zero = torch.zeros(n, device=ids.device)
        transl = torch.stack([zero, self._heights[self._starts[clip] + frame], zero], -1)
        return self._placed(ids, stream, pose, self.betas[body], transl, subject, clip, frame, body)

    def _clips(self, u: Tensor) -> Tensor:
        """Uniform numbers (N,) to clips (N,): each half, easy and hard, as often as the other."""
        scaled = u * len(self._halves)
        which = scaled.long().clamp_max(len(self._halves) - 1)
        inside = scaled - which
        clip = torch.empty_like(which)
        for index, half in enumerate(self._halves):
            rows = which == index
            place = (inside[rows] * len(half)).long().clamp_max(len(half) - 1)
            clip[rows] = torch.tensor(half, device=u.device)[place]
        return clip

    def _placed(  # noqa: PLR0913 - the columns of a SceneDraw before there is one
        self,
        ids: Tensor,
        stream: int,
        pose: Tensor,
        betas: Tensor,
        transl: Tensor,
        subject: Tensor,
        clip: Tensor,
        frame: Tensor,
        body: Tensor,
    ) -> SceneDraw:
        ranges = self.part.camera
        surface: Tensor | None = None
        with torch.no_grad():
            if ranges.box == "surface":
                posed = self.body(aa_to_matrix(pose), betas, transl)
                joints, surface = posed.joints, posed.vertices
            else:
                joints = self.body.joints(aa_to_matrix(pose), betas, transl)
        cameras = draw_cameras(ranges, ids, stream, self.size_px)
        light: Light = hashed_light(ids, stream, self.part.ambient)
        scene = Scene(
            pose=pose,
            betas=betas,
            transl=transl,
            camera=self.crop.camera(
                frame_cameras(cameras, joints, self.size_px, ranges.box_factor, surface), joints, SMPL24
            ),
            subject=subject,
            light=light,
            background=hashed_bits(ids, derive(stream, "background"), 1)[:, 0],
        )
        return SceneDraw(scene, joints, clip, frame, body, cameras.azimuth_rad, cameras.elevation_rad)

    def __call__(self, ids: Tensor, seed: int) -> Scene:
        """ids (N,) int64 -> scenes."""
        return self.draw(ids, seed).scene
