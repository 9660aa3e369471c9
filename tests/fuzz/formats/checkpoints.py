"""Weights: torch's files in both layouts, npz, HybrIK's, A-NeRF's with its args.txt, TFLite, fitted fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from posegen.estimator.checkpoint import load_strict, read_state
from posegen.estimator.hybrik_body import HybrikBody
from posegen.estimator.tflite_graph import read_tflite
from posegen.renderer.anerf.checkpoint import ANerfConfig, config_from_args, read_anerf
from posegen.renderer.field.artifact import load_field_file

from .. import neighbours
from ..format import Format
from ..pickled import TORCH, TORCH_OLD, torch_saved
from ..raw import RAW
from ..tables import TFLITE
from ..texts import LINES
from ..tflite_sample import small_tflite
from ..zips import NPZ


def _state() -> dict[str, Any]:
    torch.manual_seed(0)
    weights = {f"module.layer{i}.{name}": torch.rand(3, 4) for i in range(2) for name in ("weight", "bias")}
    weights["module.steps"] = torch.tensor(7)
    weights["module.shared"] = weights["module.layer0.weight"].t()[1:]
    return {
        "model": weights,
        "epoch": 3,
        "best": np.float64(81.2),
        "optimizer": {"state": {}, "groups": [{"lr": 1e-4}]},
    }


def _loaded(path: Path) -> Any:
    """A network with the file's weights, as estimators take them."""
    network = torch.nn.Module()
    for i in range(2):
        layer = torch.nn.Module()
        layer.register_buffer("weight", torch.zeros(3, 4))
        layer.register_buffer("bias", torch.zeros(3, 4))
        network.add_module(f"layer{i}", layer)
    network.register_buffer("steps", torch.tensor(0))
    network.register_buffer("shared", torch.zeros(3, 3))
    load_strict(network, read_state(path), "a network of two layers", path)
    return network


ARGS = """N_importance = 16
N_samples = 64
bone_type = reldir
chunk = 4096
cutoff_inputs = True
density_scale = 1.0
density_type = relu
kp_dist_type = reldist
multires_bones = 0
nerf_type = nerf
softplus_shift = 1.0
use_viewdirs = True
view_type = relray
"""


def formats() -> list[Format]:
    from synthetic_anerf import checkpoint_state

    def saved(content: Any, name: str, old: bool = False) -> Any:
        def build(folder: Path) -> Path:
            (folder / name).write_bytes(torch_saved(content(), old))
            return folder / name

        return build

    def npz(folder: Path) -> Path:
        np.savez(folder / "weights.npz", **{"a.weight": np.ones((3, 4), np.float16), "b.bias": np.zeros(5, np.float32)})
        return folder / "weights.npz"

    def hybrik() -> dict[str, Any]:
        return {"smpl.v_template": torch.zeros(6890, 3), "smpl.faces_tensor": torch.zeros(9, 3, dtype=torch.long)}

    def args(folder: Path) -> Path:
        (folder / "args.txt").write_text(ARGS)
        return folder / "args.txt"

    def tflite(folder: Path) -> Path:
        (folder / "pose.tflite").write_bytes(small_tflite())
        return folder / "pose.tflite"

    def field(folder: Path) -> Path:
        sample = neighbours.TESTS / "data" / "format1" / "field.npz"
        (folder / "field.npz").write_bytes(sample.read_bytes())
        return folder / "field.npz"

    return [
        Format("checkpoint.pt", saved(_state, "a.pt"), _loaded, TORCH, RAW),
        Format("checkpoint_old.pt", saved(_state, "old.pt", True), _loaded, TORCH_OLD, RAW),
        Format("weights.npz", npz, read_state, NPZ, RAW),
        Format("hybrik.pth", saved(hybrik, "h.pth"), lambda p: HybrikBody.like_state(read_state(p), p), TORCH, RAW,
        weight=0.3),
        Format("anerf.tar", saved(lambda: checkpoint_state(width=8), "a.tar"), lambda p: read_anerf(p,
        ANerfConfig()), TORCH, RAW,
               weight=0.5),
        Format("anerf_args.txt", args, config_from_args, LINES, RAW, _check_args),
        Format("model.tflite", tflite, read_tflite, TFLITE, RAW, _check_graph),
        Format("field.npz", field, load_field_file, NPZ, RAW, weight=0.4),
    ]  # fmt: skip


def _check_args(config: ANerfConfig) -> None:
    assert config.N_samples >= 4 and config.N_importance >= 0 and config.chunk >= 1, "counts"
    assert config.multires_bones >= 0, "multires_bones"


def _check_graph(graph: Any) -> None:
    for number, value in graph.constants.items():
        assert value.shape == graph.shapes[number], "a constant's shape"
