"""Where to compute when nobody says."""

from __future__ import annotations

import os

import torch

from posegen.errors import EngineError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def torch_build() -> str:
    """Which torch this is, for errors about GPUs."""
    return f"torch {torch.__version__}, CUDA: {torch.version.cuda or 'not built in'}"


def default_device() -> torch.device:
    """The GPU that this process may use (inside a Ray actor its own, if it asked for one), else the CPU.

    Raises EngineError where a GPU was given, by Ray or by hand, and this torch cannot use one: the CPU in its place
    would be far slower and keep the GPU from others.
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    given = os.environ.get(VISIBLE, "")
    if given and not given.startswith("-"):
        raise EngineError(
            f"a GPU was given ({VISIBLE}={given}), and this torch cannot use one ({torch_build()})",
            where=VISIBLE,
            next_command=f"install a CUDA build of torch, or engine.gpus_per_renderer=0, or {VISIBLE}=",
        )
    return torch.device("cpu")
