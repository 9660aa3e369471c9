"""The scenes of an atlas as shards: rendered as every data set is, but without an estimator.

So the pictures are the same for all estimators that crop alike, and an atlas after fine-tuning renders nothing again.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch

from posegen.arms.proposals import build_proposals
from posegen.config.task import ArmTask
from posegen.devices import default_device
from posegen.estimator.configured import crop_of_config
from posegen.scenes.world import build_world
from posegen.shards.table import rows_to_table


class SceneRows:
    """Renders rows by id, see posegen.arms.rows.RowRenderer; the error at birth is not measured.

    Args:
        task: the configuration, and the arm that proposes the scenes.
    """

    def __init__(self, task: ArmTask, device: str | torch.device | None = None) -> None:
        self.task, config = task, task.config
        self.world = build_world(config, device or default_device())
        self.crop = crop_of_config(config)
        self.propose = build_proposals(config, task.arm, self.world.subjects)

    @torch.no_grad()
    def __call__(self, ids: np.ndarray) -> pa.Table:
        """ids (N,) int64 -> N rows (see posegen.shards.schema)."""
        row_ids = torch.from_numpy(np.array(ids, dtype=np.int64))
        scene = self.world.cropped(self.propose(row_ids).to(self.world.device), self.crop)
        images = (self.world.photograph(scene) * 255).round().to(torch.uint8)
        labels = self.world.labels(scene)
        return rows_to_table(
            row_ids, scene.to("cpu"), images.cpu(), joints2d_px=labels["joints2d_px"].cpu(),
            joints3d_cam_m=labels["joints3d_cam_m"].cpu(), seed=self.task.config.seed, round=0,
            generator_version=0, arm=self.task.arm,
        )  # fmt: skip
