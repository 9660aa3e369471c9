"""How volumes bend with the pose: each follows, affinely, the skin that several joints hold together.

Under linear blend skinning a vertex with the rest position x goes to sum_i w_i T_i x, with the joints' transforms T_i.
The affine map of a volume that comes closest to this over its vertices is linear in the T_i too: the least squares fit
of w_i x by G_i x, with x = (x, y, z, 1), gives sum_i T_i G_i, the same matrices G_i for all poses. (With G_i = w_i I
for one vertex this is skinning itself.) What the volume's own frame does already is taken off, so that a pose of zero
bends nothing, and what is left is saturated, so that it can be inverted in all poses.

Dimensions: B batch, K volumes, V vertices, P joints that bend a volume.
"""

from __future__ import annotations

import torch
from torch import Tensor

from posegen.renderer.field.affine import MAX_BEND, applied, entries_first, eye_like, product, saturated

BENDING_JOINTS = 5  # P: a sixth changed the skin's error over poses of the clips by less than 0.1 mm
SHARPNESS = 8


def bending_fit(points_m: Tensor, weights: Tensor, importance: Tensor, ridge_m: float = 0.005) -> tuple[Tensor, Tensor]:
    """The closed form of one volume.

    Args:
        points_m: (V,3) rest vertices relative to the volume's joint.
        weights: (V,24) skinning weights.
        importance: (V,) of each vertex in the least squares.
        ridge_m: holds the volume stiff along directions in which the points spread less than that.

    Returns:
        the joints that bend it (P,), most important first, and their G (P,4,4).
    """
    importance = importance.double() / importance.double().sum().clamp_min(1e-12)
    joints = (importance @ weights.double()).topk(BENDING_JOINTS).indices
    design = torch.cat([points_m.double(), torch.ones(len(points_m), 1, dtype=torch.float64)], 1)
    weighted = design * importance[:, None]
    normal = design.T @ weighted
    normal[:3, :3] += ridge_m**2 * torch.eye(3, dtype=torch.float64)
    shares = torch.einsum("vp,va,vb->pab", weights[:, joints].double(), weighted, design)
    return joints, torch.linalg.solve(normal, shares).transpose(-1, -2)


def bend_deformation(
    joint: Tensor,
    bend_joint: Tensor,
    bend: Tensor,
    middle_m: Tensor,
    rest_m: Tensor,
    posed: tuple[Tensor, Tensor],
    frames: tuple[Tensor, Tensor],
    shape: tuple[Tensor, Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """The affine map x -> A x + d of each volume in its own rest frame, to be followed by the betas' map.

    Args:
        joint: (K,) the joint each volume rides on; bend_joint: (P,B,K); bend: (4,4,P,B,K), see `bending_fit`.
        middle_m: (3,B,K) of each box, relative to its joint: saturation leaves it in place.
        rest_m: (B,24,3) rest joints; posed: their rotations (B,24,3,3) and positions (B,24,3) in the world.
        frames: the volumes' rotations (3,3,B,K) and origins (3,B,K) in the world.
        shape: the betas' map of each volume, (3,3,B,K) and (3,B,K), and the inverse of its first part.

    Returns:
        A (3,3,B,K), always invertible, and d (3,B,K) m; the identity where no joint turns.
    """
    most, batch, count = bend_joint.shape
    rotation, position = posed
    values = entries_first(torch.cat([rotation.flatten(2), position, rest_m], -1), 1)  # (15,B,24)
    index = bend_joint.transpose(0, 1).reshape(1, batch, -1).expand(len(values), -1, -1)
    carrying = values.gather(2, index).view(-1, batch, most, count).transpose(1, 2)  # (15,P,B,K)
    turn, place, rest = carrying[:9].unflatten(0, (3, 3)), carrying[9:12], carrying[12:]
    # the volume's joint as each bending joint carries it, against where the volume has it
    own = rest_m.permute(2, 0, 1).index_select(2, joint)  # (3,B,K)
    carried = place + applied(turn, own[:, None] - rest) - frames[1][:, None]
    ahead = torch.cat([turn - frames[0][:, :, None], carried[:, None]], 1)  # of the volume's own frame
    moved = product(frames[0].transpose(0, 1)[:, :, None], ahead)  # (3,4,P,B,K)
    shaped = product(moved[:, :3], torch.cat([shape[0], shape[1][:, None]], 1)[:, :, None])
    shaped = torch.cat([shaped[:, :3], shaped[:, 3:] + moved[:, 3:]], 1)
    change = product(shape[2], product(shaped, bend).sum(2))
    linear, at_joint = change[:, :3], change[:, 3]
    at_middle = at_joint + applied(linear, middle_m)
    linear = saturated(linear, MAX_BEND, SHARPNESS)
    return eye_like(linear) + linear, at_middle - applied(linear, middle_m)
