"""How the fused kernel has a field in memory: what it waits for is memory, so what it reads together lies together.

Nothing here changes a number: codes and flags are the field's own, in another order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from posegen.renderer.field.codes import TableCodes


@dataclass(frozen=True)
class KernelLayout:
    """V volumes of N^3 voxels."""

    occupied: Tensor  # (4*ceil(V*N^3 / 32),) uint8, a bit a cell, the lowest first: whole words of 32 bits
    blocks: Tensor | None  # (V,N/2,N/2,N/2,2,2,2,8) uint8 codes, 2 x 2 x 2 voxels a cache line; None where N is odd


def kernel_layout(cell: Tensor, codes: TableCodes | None, resolution: int) -> KernelLayout:
    """Args: cell (V*N^3,) uint8, 1 where a cell is occupied; codes of the table, if it has any."""
    bits = np.packbits(cell.numpy(), bitorder="little")
    occupied = torch.from_numpy(np.pad(bits, (0, -len(bits) % 4)))
    if codes is None or resolution % 2:
        return KernelLayout(occupied, None)
    half = resolution // 2
    blocks = codes.codes.view(-1, half, 2, half, 2, half, 2, 8).permute(0, 1, 3, 5, 2, 4, 6, 7)
    return KernelLayout(occupied, _on_a_line(blocks))


def _on_a_line(blocks: Tensor, line_bytes: int = 64) -> Tensor:
    """A contiguous copy that begins where a cache line does."""
    room = torch.empty(blocks.numel() + line_bytes, dtype=torch.uint8)
    start = -room.data_ptr() % line_bytes
    return room[start : start + blocks.numel()].view(blocks.shape).copy_(blocks)
