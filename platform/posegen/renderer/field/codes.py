"""A frozen table of voxels in eight bits a channel: what is stored, and what the fused kernel reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.renderer.field.appearance import EMPTY

LEVELS = 255
RANGE_LOW = (EMPTY, -6.0, -6.0, -6.0, -2.0, -2.0, -2.0, -6.0)
RANGE_HIGH = (11.0, 6.0, 6.0, 6.0, 2.0, 2.0, 2.0, 6.0)


@dataclass(frozen=True)
class TableCodes:
    """Value = low + scale * code, channel by channel."""

    codes: Tensor  # (M,8) uint8
    low: Tensor  # (8,) float32
    scale: Tensor  # (8,) float32

    def decoded(self) -> Tensor:
        """(M,8) float32."""
        return torch.addcmul(self.low, self.codes.float(), self.scale)


def encode(table: Tensor) -> TableCodes:
    """The nearest codes of a table (M,8); values outside of the ranges above are cut."""
    low, high = torch.tensor(RANGE_LOW), torch.tensor(RANGE_HIGH)
    scale = (high - low) / LEVELS
    return TableCodes(((table - low) / scale).round().clamp(0, LEVELS).to(torch.uint8), low, scale)
