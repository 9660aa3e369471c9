"""The boxes that a subject's radiance lives in: where they sit on the skeleton and how body shape deforms them.

Each volume rides on a joint's frame: the joint's rotation (fraction 1), or half of it (fraction 0.5), which carries
the skin over a bent joint. Its box is given at betas = 0 in that frame, metres relative to the joint. Betas move the
rest joints linearly and deform each box by an affine map that is linear in betas, fitted to the body's vertices.

Dimensions: K volumes, V vertices, J = 24 joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24, SMPL_PARENTS
from posegen.errors import DataError
from posegen.scene import TensorRecord

MAX_STRETCH = 0.8  # Frobenius norm that the betas' stretch saturates at, so that it can always be inverted


@dataclass(frozen=True)
class VolumeRig(TensorRecord):
    """The volumes of one subject."""

    joints_template: Tensor  # (24,3) m, rest joints at betas = 0
    joints_shapedirs: Tensor  # (24,3,10) m
    joint: Tensor  # (K,) int64, the joint a volume rides on
    fraction: Tensor  # (K,) of the joint's own rotation: 1 or 0.5
    low: Tensor  # (K,3) m, box corner in the joint's frame
    high: Tensor  # (K,3) m
    stretch: Tensor  # (K,3,3,10) per unit beta
    shift: Tensor  # (K,3,10) m per unit beta

    def __len__(self) -> int:
        return len(self.joint)


def rest_joints(template_m: Tensor, shapedirs_m: Tensor, betas: Tensor) -> Tensor:
    """(B,24,3) m or (24,3), (B,24,3,10) or (24,3,10), (B,10) -> (B,24,3) m."""
    return template_m + (shapedirs_m * betas[:, None, None]).sum(-1)


def shape_deformation(stretch: Tensor, shift: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
    """The affine map x -> A x + d of each volume for given betas.

    Args:
        stretch: (B,K,3,3,10); shift: (B,K,3,10); betas: (B,10).

    Returns:
        A (B,K,3,3), always invertible: the stretch is saturated smoothly (by less than 0.1 % where its norm is
        under 0.2), and d (B,K,3) m.
    """
    linear = (stretch @ betas[:, None, None, :, None])[..., 0]
    size = (linear * linear).sum((-2, -1), keepdim=True)
    linear = linear * (1 + (size / MAX_STRETCH**2) ** 2) ** -0.25
    eye = torch.eye(3, dtype=betas.dtype, device=betas.device)
    return eye + linear, (shift @ betas[:, None, :, None])[..., 0]


HALF_JOINTS: tuple[str, ...] = ()


def build_rig(
    template_m: Tensor,
    shapedirs_m: Tensor,
    weights: Tensor,
    joints_template: Tensor,
    joints_shapedirs: Tensor,
    half_joints: tuple[str, ...] = HALF_JOINTS,
    min_weight: float = 0.1,
    margin_m: float = 0.03,
) -> VolumeRig:
    """Places the volumes around a skinned mesh.

    Args:
        template_m: (V,3) rest vertices at betas = 0.
        shapedirs_m: (V,3,10) displacement per unit beta.
        weights: (V,24) skinning weights.
        joints_template: (24,3); joints_shapedirs: (24,3,10).
        half_joints: names of joints that get a second volume, turned by half of the joint's rotation.
        min_weight: skinning weight from which a vertex belongs to a volume.
        margin_m: how far a box reaches beyond its vertices.
    """
    if template_m.shape[-1] != 3 or weights.shape != (len(template_m), 24):
        raise DataError(f"a skinned mesh needs vertices (V,3) and weights (V,24), not {tuple(template_m.shape)} and "
                        f"{tuple(weights.shape)}")  # fmt: skip
    volumes = [(joint, 1.0) for joint in range(24)] + [(SMPL24.index(name), 0.5) for name in half_joints]
    low, high, stretch, shift = [], [], [], []
    for joint, fraction in volumes:
        weight = volume_weights(weights, torch.tensor([joint]), torch.tensor([fraction]))[:, 0]
        chosen = weight > min_weight
        points = (template_m - joints_template[joint])[chosen]
        if len(points) < 4:  # a joint without skin of its own: a small box that stays empty
            low.append(torch.full((3,), -margin_m))
            high.append(torch.full((3,), margin_m))
            stretch.append(torch.zeros(3, 3, 10))
            shift.append(torch.zeros(3, 10))
            continue
        low.append(points.amin(0) - margin_m)
        high.append(points.amax(0) + margin_m)
        moved = (shapedirs_m - joints_shapedirs[joint])[chosen]
        linear, constant = _affine_fit(points, moved, weight[chosen])
        stretch.append(linear)
        shift.append(constant)
    return VolumeRig(
        joints_template.float().clone(),
        joints_shapedirs.float().clone(),
        torch.tensor([joint for joint, _ in volumes]),
        torch.tensor([fraction for _, fraction in volumes]),
        torch.stack(low).float(),
        torch.stack(high).float(),
        torch.stack(stretch).float(),
        torch.stack(shift).float(),
    )


def volume_weights(weights: Tensor, joint: Tensor, fraction: Tensor) -> Tensor:
    """How much each vertex follows each volume: skinning weights (V,24), joint (K,), fraction (K,) -> (V,K)."""
    own = weights[:, joint]
    parent = weights[:, torch.tensor(SMPL_PARENTS)[joint].clamp_min(0)]
    half = 2 * torch.minimum(own, parent)  # where the joint and its parent hold the skin together
    return torch.where(fraction == 0.5, half, own)


def _affine_fit(points_m: Tensor, moved_m: Tensor, weight: Tensor, ridge_m: float = 0.005) -> tuple[Tensor, Tensor]:
    """Weighted least squares of displacements (V,3,10) on positions (V,3): a stretch (3,3,10) and a shift (3,10).

    The ridge, as a length, holds the stretch back along directions in which the points spread less than that.
    """
    weight = weight.double() / weight.double().sum()
    design = torch.cat([points_m.double(), torch.ones(len(points_m), 1, dtype=torch.float64)], 1)
    normal = design.T @ (design * weight[:, None])
    normal[:3, :3] += ridge_m**2 * torch.eye(3, dtype=torch.float64)
    right = design.T @ (moved_m.double().flatten(1) * weight[:, None])
    solution = torch.linalg.solve(normal, right).view(4, 3, -1)
    return solution[:3].permute(1, 0, 2), solution[3]
