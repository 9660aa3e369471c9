"""Where to compute when nobody says."""

from __future__ import annotations

import torch


def default_device() -> torch.device:
    """The GPU that this process may use (inside a Ray actor its own, if it asked for one), else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
