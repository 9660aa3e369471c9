"""jobs/rows_seen.py: what an estimator makes of rows, and whom it turns round."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24
from posegen.scene import Camera, Light, Prediction, Scene
from posegen.shards import Plan, ShardWriter, read_shards, rows_to_table

JOB = runpy.run_path(str(Path(__file__).parents[2] / "jobs" / "rows_seen.py"))
ROWS, SIDE = 10, 4


def people() -> Tensor:
    """(N,24,3) m, camera frame: no two alike, all with their left on their left."""
    joints = torch.randn(ROWS, 24, 3, generator=torch.Generator().manual_seed(3)) * 0.1
    for name, side in (("left", 0.5), ("right", -0.5)):
        for joint, down in (("hip", 0.5), ("shoulder", 0.0)):
            joints[:, SMPL24.index(f"{name}_{joint}"), :2] += torch.tensor([side, down])
    return joints


class TurnsOdd:
    """Sees every second picture's person as it is, and the others half a turn round."""

    name = "turns_odd"

    def __call__(self, images: Tensor) -> Prediction:
        assert images.dtype == torch.float32 and float(images.min()) >= 0 and float(images.max()) <= 1
        rows = (images[:, 0, 0, 0] * 255).round().long()
        joints = SMPL24.centred(people()[rows])
        half_turn = torch.tensor([-1.0, 1.0, -1.0])
        return Prediction(torch.where((rows % 2 == 1)[:, None, None], joints * half_turn, joints), SMPL24.name)


def test_half_a_turn_is_the_wrong_way_round_and_no_error_of_articulation(tmp_path: Path):
    ids = torch.arange(ROWS)
    scene = Scene(
        pose=torch.zeros(ROWS, 24, 3), betas=torch.zeros(ROWS, 10), transl=torch.zeros(ROWS, 3),
        camera=Camera(torch.eye(3).repeat(ROWS, 1, 1), torch.zeros(ROWS, 3), torch.full((ROWS,), 9.0),
                      torch.full((ROWS, 2), 2.0), SIDE, SIDE),
        subject=ids, light=Light.default(ROWS), background=ids,
    )  # fmt: skip
    images = ids[:, None, None, None].expand(-1, 3, SIDE, SIDE).to(torch.uint8)
    writer = ShardWriter(tmp_path, Plan(rows=ROWS, rows_per_shard=4))
    writer.write(
        rows_to_table(
            ids, scene, images, joints2d_px=torch.zeros(ROWS, 24, 2), joints3d_cam_m=people(), seed=0, round=0,
            generator_version=0, arm="anchors",
        )
    )  # fmt: skip
    writer.close()
    rows = JOB["seen"](read_shards(tmp_path), TurnsOdd())
    assert rows["wrong"].tolist() == [False, True] * (ROWS // 2)
    assert rows["mpjpe"][::2].max() < 1e-2 and rows["mpjpe"][1::2].min() > 100
    assert np.allclose(rows["pa_mpjpe"], 0, atol=0.1)
    assert "50 % seen the wrong way round" in JOB["told"](rows)
