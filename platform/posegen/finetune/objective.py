"""What a row teaches an estimator whose body is, or is not, the one that the row was made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24
from posegen.body.rotations import aa_to_matrix
from posegen.body.skeleton import Skeleton, carried_over, rest_turns
from posegen.estimator.labels import Labels


@dataclass(frozen=True)
class Teaching:
    """What of a body's labels holds for an estimator's body.

    Args:
        same_body: betas of the one are betas of the other.
        turns: (24,3,3), see posegen.body.skeleton.rest_turns; None where rotations say nothing.
    """

    same_body: bool
    turns: Tensor | None

    @staticmethod
    def between(source: Skeleton, target: Skeleton | None) -> Teaching:
        """From labels of the body `source` to an estimator of the body `target`; one that does not tell its body is
        taught joints only."""
        if target is None:
            return Teaching(False, None)
        if source.same_as(target):
            return Teaching(True, torch.eye(3).repeat(24, 1, 1))
        return Teaching(False, rest_turns(source, target))


def labels_of_rows(rows: Mapping[str, Tensor], teaching: Teaching) -> Labels:
    """The labels of shard rows (see posegen.shards.schema), in the camera frame, for the estimator's body.

    Args:
        rows: pose (B,24,3) world, betas (B,10), camera_R (B,3,3), joints3d_cam_m (B,24,3), joints2d_px (B,24,2),
            image (B,3,S,S).
    """
    matrices = aa_to_matrix(rows["pose"])
    root = rows["camera_R"] @ matrices[:, 0]
    rotations = torch.cat([root[:, None], matrices[:, 1:]], 1)
    if teaching.turns is not None and not teaching.same_body:
        rotations = carried_over(rotations, teaching.turns)
    side = torch.tensor(rows["image"].shape[-2:][::-1], dtype=torch.float32, device=root.device)
    ones = torch.ones(len(root), device=root.device)
    return Labels(
        rotations,
        rows["betas"],
        SMPL24.centred(rows["joints3d_cam_m"]),
        rows["joints2d_px"] / side * 2 - 1,
        rotations_known=ones * float(teaching.turns is not None),
        betas_known=ones * float(teaching.same_body),
    )
