"""Pictures that exist, turned until the person stands upright, with their truth.

The turn is one about the line of sight, so the truth of a turned picture is the turned truth: errors do not change by
it, and whatever compares a prediction with this truth needs to know nothing of it.

Dimensions: B batch.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from posegen.benchmarks.readers.truth import TruthBatch
from posegen.body.joint_sets import JointSet
from posegen.body.rotations import aa_to_matrix, matrix_to_aa
from posegen.estimator.crop import CropConvention


def turned_upright(
    images: Tensor, truth: TruthBatch, crop: CropConvention, joints: JointSet
) -> tuple[Tensor, TruthBatch]:
    """Crops (B,3,size,size) of an upright convention, and their truth.

    Args:
        images: (B,3,S,S), twice as wide as the person's box times the convention's margin.
        truth: of them, in the camera frame.
        joints: the truth's joint set.
    """
    turn, side = crop.turn_and_side(truth.joints, joints)
    turn, side = turn.to(images), side.to(images)
    theta = torch.zeros(len(images), 2, 3, dtype=images.dtype)
    theta[:, :, :2] = (side / (2 * crop.margin))[:, None, None] * turn.mT  # from the crop's points to the picture's
    grid = F.affine_grid(theta, [len(images), 3, crop.size_px, crop.size_px], align_corners=False)
    turned = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    roll = torch.eye(3, dtype=truth.joints.dtype).repeat(len(images), 1, 1)
    roll[:, :2, :2] = turn.to(roll)
    pose = truth.pose
    if pose is not None:
        orient = matrix_to_aa(roll.to(pose) @ aa_to_matrix(pose[:, 0]))
        pose = torch.cat([orient[:, None], pose[:, 1:]], 1)
    vertices = None if truth.vertices is None else truth.vertices @ roll.mT.to(truth.vertices)
    return turned, replace(truth, joints=truth.joints @ roll.mT, vertices=vertices, pose=pose)
