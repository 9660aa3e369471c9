"""What one worker of several needs to know: its slice of the global batch, and how to see all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from posegen.scene import TensorRecord

Record = TypeVar("Record", Tensor, TensorRecord)


@dataclass(frozen=True)
class Parallel:
    """Worker `rank` of `world_size`. Row i of a global batch belongs to rank i mod world_size.

    Interleaved rather than in blocks, so that the first rows of the global batch are spread over all workers.
    """

    rank: int = 0
    world_size: int = 1

    def share(self, total: int, what: str) -> int:
        """Rows of this rank out of `total`. Raises ConfigError unless every worker gets the same number."""
        if total % self.world_size:
            from posegen.errors import ConfigError

            raise ConfigError(
                f"{what} = {total} rows do not divide among {self.world_size} workers",
                choices=[total - total % self.world_size, total + self.world_size - total % self.world_size],
            )
        return total // self.world_size

    def slice(self, record):
        """This rank's rows of a global batch."""
        return record if self.world_size == 1 else record[self.rank :: self.world_size]

    def gather(self, tensor: Tensor) -> Tensor:
        """All workers' rows (n, ...) in global order (n * world_size, ...), with gradient to this worker's own.

        The gradient sums over workers, so a loss on gathered rows, averaged by DDP, is that of one worker with all.
        """
        if self.world_size == 1:
            return tensor
        from torch.distributed.nn.functional import all_gather

        return torch.stack(list(all_gather(tensor.contiguous())), 1).flatten(0, 1)

    @torch.no_grad()
    def gather_uneven(self, rows: Tensor) -> Tensor:
        """All workers' rows (n, ...) in global order, where some workers may have fewer than others, or none."""
        if self.world_size == 1:
            return rows
        from torch.distributed import all_gather

        def of_all(mine: Tensor) -> Tensor:
            found = [torch.empty_like(mine) for _ in range(self.world_size)]
            all_gather(found, mine.contiguous())
            return torch.stack(found, 1)

        counts = of_all(torch.tensor([len(rows)], device=rows.device))[0]
        most = int(counts.max())
        padded = rows.new_zeros(most, *rows.shape[1:])
        padded[: len(rows)] = rows
        there = torch.arange(most, device=rows.device)[:, None] < counts
        return of_all(padded)[there]
