"""What a row teaches an estimator: all that its prediction can be compared with."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24, comparable, joint_set
from posegen.body.rotations import aa_to_matrix
from posegen.estimator.labels import Labels, LossWeights, supervised_loss
from posegen.scene import Prediction


def labels_of_rows(rows: Mapping[str, Tensor]) -> Labels:
    """The labels of shard rows (see posegen.shards.schema), in the camera frame.

    Args:
        rows: pose (B,24,3) world, betas (B,10), camera_R (B,3,3), joints3d_cam_m (B,24,3), joints2d_px (B,24,2),
            image (B,3,S,S).
    """
    matrices = aa_to_matrix(rows["pose"])
    root = rows["camera_R"] @ matrices[:, 0]
    side = torch.tensor(rows["image"].shape[-2:][::-1], dtype=torch.float32, device=root.device)
    return Labels(
        torch.cat([root[:, None], matrices[:, 1:]], 1),
        rows["betas"],
        SMPL24.centred(rows["joints3d_cam_m"]),
        rows["joints2d_px"] / side * 2 - 1,
    )


def objective(prediction: Prediction, labels: Labels, weights: LossWeights) -> Tensor:
    """The loss of a batch.

    An estimator of SMPL parameters is taught joints, rotations, betas and the projection; one that gives joints only,
    in whatever named set, is taught the joints it shares with SMPL.
    """
    if prediction.rotations is not None and prediction.joint_set == SMPL24.name:
        return supervised_loss(prediction, labels, weights)
    predicted, true = comparable(prediction.joints, joint_set(prediction.joint_set), labels.joints, SMPL24)
    loss = weights.joints * (predicted - true).norm(dim=-1).mean()
    if prediction.rotations is not None:
        loss = loss + weights.rotations * (prediction.rotations - labels.rotations).square().sum((-1, -2)).mean()
    if prediction.betas is not None:
        loss = loss + weights.betas * (prediction.betas - labels.betas).square().mean()
    return loss
