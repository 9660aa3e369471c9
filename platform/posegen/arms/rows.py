"""Renders rows: ids in, an Arrow table out. What a Ray Data actor does all day.

`RowRenderer` makes an arm's rows with the field; `SourceRenderer` makes rows of the kind the embedded estimator was
pre-trained on, with the reference mesh renderer.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch

from posegen.adversarial.target import generator_target
from posegen.arms.proposals import build_proposals, persons
from posegen.arms.registry import Given, Proposal
from posegen.body.model import load_body
from posegen.config.schema import PosegenConfig
from posegen.config.task import ArmTask
from posegen.devices import default_device
from posegen.estimator.configured import build_estimator, crop_of_config
from posegen.estimator.crop import crop_of
from posegen.feedback.errors3d import image_error_m
from posegen.files.arrays import read_npy
from posegen.generator.build import load_generator
from posegen.scenes.world import build_world, real_poses
from posegen.shards.table import rows_to_table

SOURCE_ARM = "source"


class RowRenderer:
    """Renders rows by id. A row is a function of the task and the id alone.

    Args:
        task: the arm and round, with the files that the arm needs.
        device: where to render; None takes the GPU if there is one.
    """

    def __init__(self, task: ArmTask, device: str | torch.device | None = None) -> None:
        self.task = task
        config = task.config
        self.world = build_world(config, device or default_device())
        self.estimator = build_estimator(config, self.world.device, task.estimator_weights)
        if isinstance(self.estimator, torch.nn.Module):
            self.estimator.eval()
        self.crop = crop_of(self.estimator)
        chosen_file = task.chosen_file
        self.chosen = torch.from_numpy(read_npy(chosen_file, "the chosen ids")) if chosen_file else None
        self.target = generator_target(config.target, task.target)
        self.propose: Proposal | None = None
        if not task.online:
            file = task.generator_file
            self.update(task.generator_version, load_generator(file) if file else None)

    def update(self, version: int, generator_state: Mapping[str, torch.Tensor] | None) -> None:
        """Renders from now on with this version of the generator."""
        self.version = version
        self.propose = build_proposals(
            self.task.config, self.task.arm, self.world.subjects, generator_state, self.chosen, self.target
        )

    @torch.no_grad()
    def __call__(self, ids: np.ndarray) -> pa.Table:
        """ids (N,) int64 -> N rows (see posegen.shards.schema)."""
        assert self.propose is not None, "with `online`, update() comes first"
        row_ids = torch.from_numpy(np.array(ids, dtype=np.int64))
        scene = self.world.cropped(self.propose(row_ids).to(self.world.device), self.crop)
        images = (self.world.photograph(scene) * 255).round().to(torch.uint8)
        labels = self.world.labels(scene)
        prediction = self.estimator(images.float() / 255)
        error = image_error_m(prediction, labels["joints3d_cam_m"], self.task.measured_by) * 1000
        return rows_to_table(
            row_ids,
            scene.to("cpu"),
            images.cpu(),
            joints2d_px=labels["joints2d_px"].cpu(),
            joints3d_cam_m=labels["joints3d_cam_m"].cpu(),
            seed=self.task.config.seed,
            round=self.task.round,
            generator_version=self.version,
            arm=self.task.arm,
            error_at_birth_mm=error.cpu(),
        )


def persons_of(task: ArmTask, ids: np.ndarray) -> np.ndarray:
    """Which of the target's people each row (N,) of a task is drawn around; -1 for poses of the pool."""
    config = task.config
    body = load_body(config.body.path, resolution=config.body.resolution)
    given = Given(config, real_poses(config), body, subjects=1, target=generator_target(config.target, task.target))
    return persons(given, torch.from_numpy(np.array(ids, np.int64))).numpy()


class SourceRenderer:
    """Rows of the part of the split that the estimator was pre-trained on (`estimator.source`).

    Args:
        config: the configuration.
    """

    def __init__(self, config: PosegenConfig) -> None:
        from posegen.benchmarks.embedded.stand_ins import mesh_renderer
        from posegen.scenes.photographer import Photographer
        from posegen.scenes.sampler import SceneSampler
        from posegen.scenes.split import load_split

        part = load_split(config.split)[config.estimator.source]
        self.seed = int(config.seed)
        self.sampler = SceneSampler(part, size_px=config.image_size, crop=crop_of_config(config))
        self.photograph = Photographer.of_part(part, mesh_renderer(part), clamped=False)

    @torch.no_grad()
    def __call__(self, ids: np.ndarray) -> pa.Table:
        """ids (N,) int64 -> N rows; the estimator's error is not measured."""
        row_ids = torch.from_numpy(np.array(ids, dtype=np.int64))
        draw = self.sampler.draw(row_ids, self.seed)
        scene = draw.scene
        return rows_to_table(
            row_ids,
            scene,
            (self.photograph(scene) * 255).round().to(torch.uint8),
            joints2d_px=scene.camera.project(draw.joints_m),
            joints3d_cam_m=scene.camera.to_camera(draw.joints_m),
            seed=self.seed,
            round=0,
            generator_version=0,
            arm=SOURCE_ARM,
        )
