"""HybrIK's analytical-neural inverse kinematics (Li et al. 2021): joints and twist angles to rotations, differentiable.

Each joint's rotation is swing times twist: the swing turns the rest bone onto the predicted bone, the twist about the
rest bone is predicted by the network. Two forms, after HybrIK hybrik/models/layers/smpl/lbs.py:
- naive: each bone's direction is taken from the predicted skeleton; the pelvis from the spine and the hips.
- adaptive: along the chain the bone is taken from the joint as reached so far to the predicted child, which undoes
  the errors of bone lengths, unless that differs by more than 15 mm; the pelvis by a fit of its three children.
The values are the original's; gradients are complete (the original detaches the skeleton in places).

Dimensions: B batch; 29 joints: SMPL's 24, then the leaves head, left and right middle finger, left and right big toe.
"""

from __future__ import annotations

import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL_PARENTS
from posegen.body.rotations import skew

PARENTS: tuple[int, ...] = (*SMPL_PARENTS, 15, 22, 23, 10, 11)
# The joint that each joint's bone points to; the pelvis points to the spine, the upper spine to the neck.
CHILDREN: tuple[int, ...] = (
    3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 27, 28, 15, 16, 17, 24, 18, 19, 20, 21, 22, 23, 25, 26, -1, -1, -1, -1, -1,
)  # fmt: skip
LEAF_VERTICES = (411, 2445, 5905, 3216, 6617)  # of SMPL's topology
MAX_DRIFT_M = 0.015
_EPS = 1e-8


class NearestRotation(torch.autograd.Function):
    """The rotation nearest to a matrix: R = V diag(1, 1, det) U^T of M = V S U^T.

    Its gradient divides by sums of singular values, not by their differences as that of the SVD does, so that
    symmetric skeletons are no trouble: with M = R P, P symmetric and dR = R W, the antisymmetric part of R^T dM is
    W P + P W.
    """

    @staticmethod
    def forward(ctx, matrix: Tensor) -> Tensor:
        left, values, right_t = torch.linalg.svd(matrix)
        sign = torch.ones_like(values)
        sign[..., 2] = torch.linalg.det(left @ right_t)
        rotation = (left * sign[..., None, :]) @ right_t
        ctx.save_for_backward(rotation, right_t, values * sign)
        return rotation

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        rotation, right_t, values = ctx.saved_tensors
        right = right_t.transpose(-1, -2)
        turned = right_t @ rotation.transpose(-1, -2) @ grads[0] @ right
        sums = values[..., :, None] + values[..., None, :]
        floor = 1e-6 * values[..., :1, None].abs() + 1e-12  # two vanishing values: the rotation is not defined there
        sums = torch.where(sums.abs() < floor, floor.expand_as(sums), sums)
        return rotation @ right @ ((turned - turned.transpose(-1, -2)) / sums) @ right_t


def rotation_between(start: Tensor, end: Tensor) -> Tensor:
    """The smallest rotation that turns vectors onto others: (...,3), (...,3) -> (...,3,3). The identity for opposite
    vectors, as in the original."""
    product = start.norm(dim=-1) * end.norm(dim=-1) + _EPS
    axis = torch.linalg.cross(start, end, dim=-1)
    length = axis.norm(dim=-1)
    cosine = (start * end).sum(-1) / product
    return _about(axis / (length + _EPS)[..., None], cosine, length / product)


def _about(axis: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotation about unit axes (...,3) by an angle of given cosine and sine (...)."""
    k = skew(axis)
    eye = torch.eye(3, dtype=axis.dtype, device=axis.device)
    return eye + sine[..., None, None] * k + (1 - cosine)[..., None, None] * (k @ k)


def twist(bone: Tensor, phi: Tensor, guard: float = 0.0) -> Tensor:
    """Rotation about rest bones (B,3) by angles given as (cos, sin) (B,2).

    Args:
        guard: added to the bone's length, in metres. The original has 1e-8 in the naive form and none in the adaptive
            one; on bones of a decimetre that is a difference of 1e-7 a joint, which adds up along the chain.
    """
    return _about(bone / (bone.norm(dim=-1, keepdim=True) + guard), phi[..., 0], phi[..., 1])


def _rotate(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]


def pelvis_from_fit(bones_m: Tensor, rest_bones_m: Tensor) -> Tensor:
    """The pelvis' rotation that best fits the bones to its three children. (B,29,3) each -> (B,3,3)."""
    children = [3, 1, 2]
    correlation = torch.einsum("bni,bnj->bij", bones_m[:, children], rest_bones_m[:, children])
    return NearestRotation.apply(correlation)


def pelvis_from_spine(bones_m: Tensor, rest_bones_m: Tensor) -> Tensor:
    """The pelvis' rotation from the spine's direction, and about it from the middle of the hips. -> (B,3,3)."""
    spine, rest_spine = bones_m[:, 3], rest_bones_m[:, 3]
    swing = rotation_between(rest_spine, spine)
    direction = spine / (spine.norm(dim=-1, keepdim=True) + _EPS)
    hips = (bones_m[:, 1] + bones_m[:, 2]) / 2
    rest_hips = _rotate(swing, (rest_bones_m[:, 1] + rest_bones_m[:, 2]) / 2)
    across, rest_across = (v - (v * direction).sum(-1, keepdim=True) * direction for v in (hips, rest_hips))
    return rotation_between(rest_across, across) @ swing


def inverse_kinematics(skeleton_m: Tensor, rest_m: Tensor, phi: Tensor, adaptive: bool) -> Tensor:
    """Rotations of SMPL's joints relative to their parents.

    Args:
        skeleton_m: predicted joints (B,29,3), any origin.
        rest_m: joints of the rest body (B,29,3).
        phi: (B,23,2) cos and sin of the twist of joints 1..23, of any length.
        adaptive: see the module.

    Returns:
        (B,24,3,3), the first one the global orient. Differentiable in all three.
    """
    parents = list(PARENTS[1:])
    rest_bones = torch.cat([rest_m[:, :1], rest_m[:, 1:] - rest_m[:, parents]], 1)
    bones = torch.cat([rest_m[:, :1], skeleton_m[:, 1:] - skeleton_m[:, parents]], 1)
    goal = skeleton_m - skeleton_m[:, :1] + rest_m[:, :1]
    phi = phi / (phi.norm(dim=-1, keepdim=True) + _EPS)
    pelvis = pelvis_from_fit if adaptive else pelvis_from_spine
    chain = [pelvis(bones, rest_bones)]
    local = [chain[0]]
    reached = [rest_bones[:, 0]]
    for joint in range(1, 24):
        parent, child = PARENTS[joint], CHILDREN[joint]
        reached.append(reached[parent] + _rotate(chain[parent], rest_bones[:, joint]))
        bone, rest_bone = bones[:, child], rest_bones[:, child]
        if adaptive:
            corrected = goal[:, child] - reached[joint]
            plain = bone * rest_bone.norm(dim=-1, keepdim=True) / bone.norm(dim=-1, keepdim=True)
            drift = (corrected - plain).norm(dim=-1, keepdim=True)
            bone = torch.where(drift > MAX_DRIFT_M, plain, corrected)
        swing = rotation_between(rest_bone, _rotate(chain[parent].transpose(-1, -2), bone))
        local.append(swing @ twist(rest_bone, phi[:, joint - 1], 0.0 if adaptive else _EPS))
        chain.append(chain[parent] @ local[joint])
    return torch.stack(local, 1)
