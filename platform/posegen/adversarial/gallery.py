"""What a generator makes, every so many steps of its training: a sheet of pictures with what the estimator says.

The draws are the same each time, so that one sees the same people change. Nothing of the training is touched: the
draws have a random generator of their own, and weights and statistics stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24, joint_set
from posegen.config.task import ArmTask
from posegen.files.atomic import write_bytes
from posegen.generator.draws import Draw
from posegen.scene import Camera, Prediction
from posegen.seeds import torch_generator
from posegen.tracking.report.pictures import (
    LEFT_SIDE,
    PREDICTION,
    TRUTH,
    Skeleton,
    Tile,
    contact_sheet,
    encode,
    overlay,
)

if TYPE_CHECKING:
    from posegen.adversarial.loop import AdversarialLoop


def sheet_name(step: int) -> str:
    return f"step-{step:06d}.png"


class TrainingGallery:
    """The sheets of one training, PNG files in a folder.

    Args:
        folder: theirs; made when the first is written.
        every: steps from one sheet to the next; the last step has one in any case.
        images: on a sheet.
        seed: of the draws.
    """

    def __init__(self, folder: Path, every: int, images: int, seed: int) -> None:
        self.folder, self.every, self.images = folder, every, images
        self._random = torch_generator(seed, "adversarial", "gallery")
        self._draw: Draw | None = None

    @classmethod
    def of(cls, task: ArmTask) -> TrainingGallery | None:
        """As a task asks for it; None where it asks for none."""
        settings = task.config.tracking
        if task.gallery is None or settings.gallery_every == 0:
            return None
        return cls(Path(task.gallery), settings.gallery_every, settings.gallery_images, task.config.seed)

    def look(self, loop: AdversarialLoop) -> None:
        """Writes a sheet where the step that has just been done has one."""
        if loop.step_index % self.every and loop.step_index != loop.steps:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self.folder / sheet_name(loop.step_index), encode(self._sheet(loop)))

    @torch.no_grad()
    def _sheet(self, loop: AdversarialLoop) -> np.ndarray:
        if self._draw is None:
            self._draw = loop.drawer.draw(self.images, self._random)
        scene = loop.world.cropped(loop.generator(self._draw.to(loop.device)).scene, loop.crop)
        truth_px = loop.world.labels(scene)["joints2d_px"].cpu().numpy()
        said_px, errors_mm = None, [float("nan")] * self.images
        if loop.signal is None:
            images = loop.world.photograph(scene)
        else:
            sample = loop.sample(scene)
            images, errors_mm = sample.images, (sample.errors_m * 1000).tolist()
            said_px = _pixels(placed(sample.prediction, sample.joints_cam_m), scene.camera)
        pictures = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        tiles = []
        for i in range(self.images):
            skeletons = [Skeleton(truth_px[i], TRUTH)]
            skeletons += [Skeleton(said_px[i], PREDICTION)] if said_px is not None else []
            caption = f"{errors_mm[i]:.0f} mm" if np.isfinite(errors_mm[i]) else ""
            tiles.append(Tile(overlay(pictures[i], skeletons, scale=2), caption))
        said = ", orange what the estimator says" if said_px is not None else ""
        return contact_sheet(
            tiles, columns=min(8, self.images), title=f"step {loop.step_index}: blue is the truth{said}; {LEFT_SIDE}"
        )


def placed(prediction: Prediction, truth_cam_m: Tensor) -> Tensor:
    """A prediction (B,24,3) m in the camera's frame with its hips at the true ones; NaN for joints that it lacks."""
    joints, names = prediction.joints, joint_set(prediction.joint_set)
    out = torch.full((len(joints), len(SMPL24), 3), float("nan"), device=joints.device)
    in_smpl, in_own = SMPL24.common(names)
    out[:, in_smpl] = joints[:, in_own].float()
    hips = [SMPL24.index("left_hip"), SMPL24.index("right_hip")]
    own = [names.index("left_hip"), names.index("right_hip")]
    return out + truth_cam_m[:, hips].mean(1, keepdim=True) - joints[:, own].mean(1, keepdim=True)


def _pixels(joints_cam_m: Tensor, camera: Camera) -> np.ndarray:
    """(B,24,3) m in the camera's frame -> (B,24,2) px."""
    depth = joints_cam_m[..., 2:].clamp_min(0.05)
    return (joints_cam_m[..., :2] / depth * camera.focal[:, None, None] + camera.centre[:, None]).cpu().numpy()
