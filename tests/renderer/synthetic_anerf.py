"""A checkpoint with the layout of A-NeRF's trainer, filled by a formula instead of by training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from capsule_scenes import JOINTS_M
from torch import Tensor, nn

from posegen.body.cameras import look_at_camera
from posegen.scene import Light, Scene

FRAMES, CODE = 5, 16
DISTANCE_FREQUENCIES, VIEW_FREQUENCIES = 7, 4
WIDTH, DEPTH = 256, 8
DENSITY_INPUTS = 24 * (1 + 2 * DISTANCE_FREQUENCIES) + 72
VIEW_INPUTS = 72 * (1 + 2 * VIEW_FREQUENCIES)


def filled(phase: float, *shape: int) -> Tensor:
    """Numbers that any machine makes alike, about as large as a trained layer's."""
    count = torch.Size(shape).numel()
    values = torch.sin(torch.arange(count, dtype=torch.float64) * 12.9898 + phase) * 43758.5453
    scale = (6.0 / shape[-1]) ** 0.5 if len(shape) > 1 else 0.1
    return ((2 * (values - values.floor()) - 1) * scale).float().reshape(shape)


def network_state(phase: float, density_bias: float, codes: bool = True, width: int = WIDTH) -> dict[str, Tensor]:
    inputs = [DENSITY_INPUTS] + [width] * (DEPTH - 1)
    inputs[5] += DENSITY_INPUTS
    layers = {f"pts_linears.{i}": (width, size) for i, size in enumerate(inputs)}
    layers["alpha_linear"] = (1, width)
    layers["feature_linear"] = (width, width)
    layers["views_linears.0"] = (width // 2, width + VIEW_INPUTS + (CODE if codes else 0))
    layers["rgb_linear"] = (3, width // 2)
    state: dict[str, Tensor] = {}
    for i, (name, shape) in enumerate(layers.items()):
        state[f"{name}.weight"] = filled(phase + i, *shape)
        state[f"{name}.bias"] = filled(phase + i + 0.5, shape[0])
    state["alpha_linear.weight"] *= 30
    state["alpha_linear.bias"] += density_bias
    state["rgb_linear.weight"] *= 3
    if codes:
        state["framecodes.codes.weight"] = filled(phase + 0.25, FRAMES, CODE)
    return state


def checkpoint_state(codes: bool = True, width: int = WIDTH) -> dict[str, Any]:
    cutoff = {"cutoff_dist": torch.full((24,), 0.5), "tau": torch.tensor(40.0)}
    return {
        "global_step": 150000,
        "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 5e-4}]},
        "poseopt_layer_state_dict": {"rest_pose": 0.65 * JOINTS_M[None]},
        "pose_optimizer_state_dict": None,
        "poseopt_anchors": {"kps": torch.zeros(2, 24, 3).numpy(), "beta": None},
        "network_fn_state_dict": network_state(1.0, 0.0, codes, width),
        "network_fine_state_dict": network_state(2.0, 6.0, codes, width),
        "embed_state_dict": dict(cutoff),
        "embedbones_state_dict": {},
        "embeddirs_state_dict": dict(cutoff),
    }


def write_checkpoint(path: Path, **changes: Any) -> Path:
    torch.save({**checkpoint_state(), **changes}, path)
    return path


class StickBody(nn.Module):
    """Bones of fixed length, one percent longer for each unit of the first beta."""

    def rest_joints(self, betas: Tensor) -> Tensor:
        return JOINTS_M.to(betas) * (1 + 0.01 * betas[:, :1, None])


def anerf_scene(size_px: int = 12) -> Scene:
    pose = 0.3 * filled(7.0, 1, 24, 3)
    camera = look_at_camera(
        torch.tensor([0.6]), torch.tensor([0.3]), torch.tensor([4.0]), 0.1, 1.6 * size_px, size_px,
        torch.tensor([[0.0, -0.2, 0.0]]),
    )  # fmt: skip
    return Scene(
        pose=pose,
        betas=torch.zeros(1, 10),
        transl=torch.tensor([[0.05, -0.1, 0.2]]),
        camera=camera,
        subject=torch.zeros(1, dtype=torch.int64),
        light=Light.default(1),
        background=torch.full((1,), -1),
    )
