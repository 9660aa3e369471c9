"""The target's people as they were lifted, as labels of their own pictures.

Dimensions: B people, H hypotheses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from posegen.body.model import BodyModel
from posegen.errors import DataError
from posegen.estimator.weak_labels import WeakRows
from posegen.target.crops import TargetCrops
from posegen.target.lift.sequence import camera_joints
from posegen.target.lifted import Lifted


@dataclass(frozen=True)
class LiftedLabels:
    """Who the people of some crops may be.

    Args:
        lifted: of the same people in the same order, each with H hypotheses.
        body: that they were lifted with.

    Raises:
        DataError: the crops are of other people.
    """

    lifted: Lifted
    crops: TargetCrops
    body: BodyModel

    def __post_init__(self) -> None:
        if self.lifted.names != self.crops.people.target.names:
            raise DataError(
                "the lifted people are not those whose pictures are shown", where="target.lifted",
                next_command="posegen run ... run.restart=true",
            )  # fmt: skip

    @torch.no_grad()
    def join(self, rows: WeakRows, numbers: list[int]) -> WeakRows:
        """Rows of the crops of these numbers, with joints (B,H,24,3) and weights (B,H)."""
        index = torch.tensor(numbers)
        hypotheses = self.lifted.hypotheses[index]
        joints = camera_joints(hypotheses, self.body)
        turned = self.crops.turned(joints.flatten(1, 2), index).view(joints.shape)
        return replace(rows, lifted=turned, weight=hypotheses.weight)
