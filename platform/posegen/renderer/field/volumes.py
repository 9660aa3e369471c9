"""The boxes that a subject's radiance lives in: where they sit on the skeleton and how body shape deforms them.

Each volume rides on a joint's frame: the joint's rotation (fraction 1), or half of it (fraction 0.5), which carries
the skin over a bent joint. Its box is given at betas = 0 in that frame, metres relative to the joint. Betas move the
rest joints linearly and deform each box by an affine map that is linear in betas, fitted to the body's vertices. The
pose may bend it too (`bending`). Volumes are placed one to a bone (`build_rig`), or one to a region (`place_volumes`).

Dimensions: K volumes, V vertices, J = 24 joints, P joints that bend a volume.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24, SMPL_PARENTS
from posegen.errors import DataError
from posegen.renderer.field.affine import MAX_STRETCH, eye_like, saturated
from posegen.renderer.field.bending import BENDING_JOINTS, bending_fit
from posegen.scene import TensorRecord


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
    bend_joint: Tensor  # (K,P) int64, the joints that bend a volume
    bend: Tensor  # (K,P,4,4), see `bending`; P is 0 where the pose bends nothing

    def __len__(self) -> int:
        return len(self.joint)


def rest_joints(template_m: Tensor, shapedirs_m: Tensor, betas: Tensor) -> Tensor:
    """(B,24,3) m or (24,3), (B,24,3,10) or (24,3,10), (B,10) -> (B,24,3) m."""
    return template_m + (shapedirs_m * betas[:, None, None]).sum(-1)


def shape_deformation(stretch: Tensor, shift: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
    """The affine map x -> A x + d of each volume for given betas.

    Args:
        stretch: (10,3,3,B,K); shift: (10,3,B,K); betas: (B,10).

    Returns:
        A (3,3,B,K), always invertible: the stretch is saturated smoothly (by less than 0.1 % where its norm is
        under 0.2), and d (3,B,K) m.
    """
    by = betas.T[..., None]  # (10,B,1)
    linear = saturated((stretch * by[:, None, None]).sum(0), MAX_STRETCH, 4)
    return eye_like(linear) + linear, (shift * by[:, None]).sum(0)


@dataclass(frozen=True)
class SkinnedMesh:
    """A mesh that rides on a skeleton, in the zero pose. Metres."""

    template_m: Tensor  # (V,3) at betas = 0
    shapedirs_m: Tensor  # (V,3,10) per unit beta
    weights: Tensor  # (V,24) skinning weights
    joints_template: Tensor  # (24,3)
    joints_shapedirs: Tensor  # (24,3,10)

    def __post_init__(self) -> None:
        if self.template_m.shape[-1] != 3 or self.weights.shape != (len(self.template_m), 24):
            raise DataError(f"a skinned mesh needs vertices (V,3) and weights (V,24), not "
                            f"{tuple(self.template_m.shape)} and {tuple(self.weights.shape)}")  # fmt: skip


def build_rig(
    mesh: SkinnedMesh,
    half_joints: tuple[str, ...] = (),
    min_weight: float = 0.1,
    margin_m: float = 0.03,
    bend: bool = False,
) -> VolumeRig:
    """A volume to each bone.

    Args:
        half_joints: names of joints that get a second volume, turned by half of the joint's rotation.
        min_weight, margin_m, bend: see `place_volumes`.
    """
    joint = torch.tensor([*range(24), *(SMPL24.index(name) for name in half_joints)])
    fraction = torch.tensor([1.0] * 24 + [0.5] * len(half_joints))
    follow = volume_weights(mesh.weights, joint, fraction)
    # squared: what bends a volume counts most where no other volume has the skin, or has it less
    return place_volumes(mesh, joint, fraction, follow, follow**2 if bend else None, min_weight, margin_m)


def place_volumes(
    mesh: SkinnedMesh,
    joint: Tensor,
    fraction: Tensor,
    follow: Tensor,
    importance: Tensor | None = None,
    min_weight: float = 0.1,
    margin_m: float = 0.03,
) -> VolumeRig:
    """Places the volumes around a skinned mesh.

    Args:
        joint: (K,) the joint each volume rides on; fraction: (K,) of its rotation, 1 or 0.5.
        follow: (V,K) how much each vertex belongs to each volume.
        importance: (V,K) of each vertex in the fit of what bends a volume; None for volumes that the pose leaves
            as they are.
        min_weight: from which `follow` a vertex belongs to a volume.
        margin_m: how far a box reaches beyond its vertices.
    """
    important = [None] * len(joint) if importance is None else list(importance.T)
    placed = [_place(mesh, j, follow[:, k], important[k], min_weight, margin_m) for k, j in enumerate(joint.tolist())]
    low, high, stretch, shift, bend_joint, bend = (torch.stack(values) for values in zip(*placed, strict=True))
    return VolumeRig(
        mesh.joints_template.float().clone(), mesh.joints_shapedirs.float().clone(), joint, fraction,
        low.float(), high.float(), stretch.float(), shift.float(), bend_joint, bend.float(),
    )  # fmt: skip


def _place(
    mesh: SkinnedMesh, joint: int, follow: Tensor, importance: Tensor | None, min_weight: float, margin_m: float
) -> tuple[Tensor, ...]:
    """Low, high, stretch, shift, bend_joint and bend of one volume."""
    chosen = follow > min_weight
    points = (mesh.template_m - mesh.joints_template[joint])[chosen]
    count = 0 if importance is None else BENDING_JOINTS
    if len(points) < 4:  # a joint without skin of its own: a small box that stays empty
        corner = torch.full((3,), margin_m)
        return (-corner, corner, torch.zeros(3, 3, 10), torch.zeros(3, 10),
                torch.zeros(count, dtype=torch.int64), torch.zeros(count, 4, 4))  # fmt: skip
    moved = (mesh.shapedirs_m - mesh.joints_shapedirs[joint])[chosen]
    stretch, shift = _affine_fit(points, moved, follow[chosen])
    bend_joint, bend = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4, 4)
    if importance is not None:
        bend_joint, bend = bending_fit(points, mesh.weights[chosen], importance[chosen])
    return points.amin(0) - margin_m, points.amax(0) + margin_m, stretch, shift, bend_joint, bend


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
