"""The scenes of an atlas as shards: made by the stages that make every data set, but without an estimator.

So the pictures are the same for all estimators that crop alike, and an atlas after fine-tuning renders nothing again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from posegen.arms.proposals import build_proposals
from posegen.devices import default_device
from posegen.engine.stream import BlockRenderer, Stage, finish_folder, prepare_folder, render_to_disk
from posegen.scenes.world import build_world, crop_of_config
from posegen.shards.table import rows_to_table

Progress = Callable[[int], None]  # told how many rows are done


class SceneRows:
    """Renders rows by id, see posegen.arms.rows.RowRenderer; the error at birth is not measured.

    Args:
        config: of the experiment with, added, "arm": what proposes the scenes.
    """

    def __init__(self, config: Mapping[str, Any], device: str | torch.device | None = None) -> None:
        self.config = config
        self.world = build_world(config, device or default_device())
        self.crop = crop_of_config(config)
        self.propose = build_proposals(config, config["arm"], self.world.subjects)

    @torch.no_grad()
    def __call__(self, ids: np.ndarray) -> pa.Table:
        """ids (N,) int64 -> N rows (see posegen.shards.schema)."""
        row_ids = torch.from_numpy(np.array(ids, dtype=np.int64))
        scene = self.world.cropped(self.propose(row_ids).to(self.world.device), self.crop)
        images = (self.world.photograph(scene) * 255).round().to(torch.uint8)
        labels = self.world.labels(scene)
        return rows_to_table(
            row_ids, scene.to("cpu"), images.cpu(), joints2d_px=labels["joints2d_px"].cpu(),
            joints3d_cam_m=labels["joints3d_cam_m"].cpu(), seed=int(self.config["seed"]), round=0,
            generator_version=0, arm=self.config["arm"],
        )  # fmt: skip


def render(stage: Stage, progress: Progress, by_ray: bool) -> None:
    """Brings a folder of shards to its plan; rows that are there are kept.

    Args:
        by_ray: whether a pool of Ray actors does it; else this process, with all its threads or its GPU.
    """
    if by_ray:
        render_to_disk(stage, progress)
        return
    done = prepare_folder(stage)
    progress(done)
    if done < stage.rows:
        renderer = BlockRenderer(stage)
        for number, ids in enumerate(stage.plan.shards()):
            renderer(ids)
            progress(max(done, min(stage.rows, (number + 1) * stage.rows_per_block)))
    finish_folder(stage)
