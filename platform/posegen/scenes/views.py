"""Where the camera of a scene may be, where that is known for the scene itself and not for all by the split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.scene import TensorRecord


@dataclass(frozen=True)
class Views(TensorRecord):
    """Bounds (n,2), low and high, of the cameras of n scenes. Where not `given` the split's ranges hold."""

    given: Tensor  # (n,) bool
    azimuth_deg: Tensor
    elevation_deg: Tensor
    roll_deg: Tensor
    distance_m: Tensor

    def __len__(self) -> int:
        return len(self.given)

    def bounds(self, name: str, otherwise: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """Low and high (n,) of one of the fields; `otherwise` where nothing is given."""
        own = getattr(self, name)
        return tuple(torch.where(self.given, own[:, i], otherwise[i]) for i in (0, 1))  # type: ignore[return-value]
