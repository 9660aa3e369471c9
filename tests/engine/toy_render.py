"""A renderer for tests: rows whose content is a function of their ids, made at the speed of memory."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch

from posegen.scene import Camera, Light, Scene
from posegen.shards import rows_to_table


def toy_rows(ids, side=16, version=0):
    ids = torch.as_tensor(np.asarray(ids))
    rows = len(ids)
    pose = torch.sin(ids[:, None, None].float() * 0.37 + torch.arange(72.0).reshape(24, 3))
    scene = Scene(
        pose=pose, betas=torch.zeros(rows, 10), transl=torch.zeros(rows, 3),
        camera=Camera(torch.eye(3).repeat(rows, 1, 1), torch.zeros(rows, 3), torch.full((rows,), 100.0),
                      torch.full((rows, 2), side / 2), side, side),
        subject=torch.zeros(rows, dtype=torch.int64), light=Light.default(rows), background=ids,
    )  # fmt: skip
    images = (ids[:, None, None, None] % 251).to(torch.uint8).expand(-1, 3, side, side).contiguous()
    return rows_to_table(
        ids, scene, images, joints2d_px=pose[..., :2], joints3d_cam_m=pose, seed=0, round=0, generator_version=version,
        arm="toy", error_at_birth_mm=ids.float(),
    )  # fmt: skip


class ToyRenderer:
    """Counts its blocks as files in config["log"], one a block; may kill its own process once, or be slow."""

    def __init__(self, config):
        self.config, self.version = config, 0

    def update(self, version, weights):
        assert weights == {"version": version}
        self.version = version

    def __call__(self, ids):
        time.sleep(self.config.get("sleep", 0))
        once = self.config.get("kill_once")
        if once and ids[0] >= self.config["kill_at"] and not Path(once).exists():
            Path(once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if "log" in self.config:
            folder = Path(self.config["log"])
            folder.mkdir(exist_ok=True)
            (folder / f"{ids[0]:06d}-{os.getpid()}-{time.monotonic_ns()}").touch()
        return toy_rows(ids, self.config.get("side", 16), self.version)


def toy_factory(config):
    return ToyRenderer(config)
