"""People of a sample as shards on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from posegen.atlas.sample import Sample
from posegen.scene import Camera, Light, Scene
from posegen.shards.table import rows_to_table
from posegen.shards.writer import Plan, ShardWriter

PICTURE = 32


def write_shards(folder: Path, sample: Sample, per_shard: int, arm: str = "random") -> Path:
    """Each row's picture is grey, as bright as its number."""
    count = len(sample)
    rotation = torch.from_numpy(sample.camera_R).float()
    scene = Scene(
        torch.from_numpy(sample.pose), torch.zeros(count, 10), torch.zeros(count, 3),
        Camera(rotation, torch.zeros(count, 3), torch.from_numpy(sample.focal_px).float(),
               torch.from_numpy(sample.centre_px).float(), PICTURE, PICTURE),
        torch.zeros(count, dtype=torch.int64), Light.default(count), torch.arange(count),
    )  # fmt: skip
    grey = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 3, PICTURE, PICTURE))
    table = rows_to_table(
        np.arange(count), scene, np.ascontiguousarray(grey),
        joints2d_px=torch.from_numpy(sample.joints_px).float(),
        joints3d_cam_m=torch.from_numpy(sample.joints_cam_m).float(),
        seed=0, round=0, generator_version=0, arm=arm,
    )  # fmt: skip
    with ShardWriter(folder, Plan(count, per_shard)) as writer:
        writer.write(table)
    return folder
