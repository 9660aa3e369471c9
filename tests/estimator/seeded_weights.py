"""Weights that anyone can recompute: drawn for each key of a state dict from numpy's generator seeded by the key's
crc32, scaled so that activations keep their size."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor


def seeded_array(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array for a key of that shape."""
    generator = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith("running_var"):
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    if key.endswith(("running_mean", "bias")):
        return (generator.standard_normal(shape) * 0.1).astype(np.float32)
    if len(shape) == 1:  # BatchNorm's scale
        return generator.uniform(0.3, 0.7, shape).astype(np.float32)
    fan_in = int(np.prod(shape[1:]))
    return (generator.standard_normal(shape) * np.sqrt(1.5 / fan_in)).astype(np.float32)


def seeded_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A state dict for the given keys and shapes (step counters are left out)."""
    return {
        key: torch.from_numpy(seeded_array(key, shape))
        for key, shape in shapes.items()
        if not key.endswith("num_batches_tracked")
    }


def seeded_images(batch: int, size: int) -> Tensor:
    """Images (batch,3,size,size) in [0,1]."""
    return torch.from_numpy(np.random.default_rng(7).uniform(0, 1, (batch, 3, size, size)).astype(np.float32))
