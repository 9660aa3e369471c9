"""Every random choice comes from a seed derived here, so that a run can be repeated and resumed exactly."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive(seed: int, *labels: object) -> int:
    """A 63-bit seed for one purpose: the same seed and labels give the same number on every machine."""
    text = "/".join([str(int(seed)), *(str(label) for label in labels)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def torch_generator(seed: int, *labels: object) -> torch.Generator:
    """A CPU torch generator seeded for one purpose (CPU, so that numbers do not depend on the device)."""
    import torch  # here: `posegen show` and the intervals need numpy alone

    return torch.Generator().manual_seed(derive(seed, *labels))


def numpy_generator(seed: int, *labels: object) -> np.random.Generator:
    """A numpy generator seeded for one purpose."""
    return np.random.default_rng(derive(seed, *labels))
