"""Rotation representations. All functions are batched over leading dimensions and differentiable.

scipy's Rotation has neither gradients nor devices, which is why these are written out.

`aa` axis-angle (...,3) rad; `matrix` (...,3,3); `rot6d` (...,6); `quat` (...,4) as w, x, y, z.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def skew(v: Tensor) -> Tensor:
    """(...,3) -> (...,3,3) with skew(v) @ u = v x u."""
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*v.shape[:-1], 3, 3)


def aa_to_matrix(aa: Tensor) -> Tensor:
    """Rodrigues' formula, R = I + a K + b K^2 with K = skew(aa); smooth at zero (Taylor below 1e-4 rad^2)."""
    sq = (aa * aa).sum(-1)
    small = sq < 1e-4
    safe = torch.where(small, torch.ones_like(sq), sq)
    angle = safe.sqrt()
    a = torch.where(small, 1 - sq / 6 + sq * sq / 120, angle.sin() / angle)
    b = torch.where(small, 0.5 - sq / 24 + sq * sq / 720, (1 - angle.cos()) / safe)
    k = skew(aa)
    eye = torch.eye(3, dtype=aa.dtype, device=aa.device)
    return eye + a[..., None, None] * k + b[..., None, None] * (k @ k)


def matrix_to_quat(m: Tensor) -> Tensor:
    """(...,3,3) -> unit quaternion (...,4) with w >= 0: the best conditioned of four candidates (Shepperd)."""
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = m.flatten(-2).unbind(-1)
    sq = torch.stack([1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], -1)
    best = sq.argmax(-1)
    candidates = torch.stack(
        [
            torch.stack([sq[..., 0], m21 - m12, m02 - m20, m10 - m01], -1),
            torch.stack([m21 - m12, sq[..., 1], m10 + m01, m02 + m20], -1),
            torch.stack([m02 - m20, m10 + m01, sq[..., 2], m12 + m21], -1),
            torch.stack([m10 - m01, m20 + m02, m21 + m12, sq[..., 3]], -1),
        ],
        -2,
    )
    index = best[..., None, None].expand(*best.shape, 1, 4)
    quat = F.normalize(candidates.gather(-2, index).squeeze(-2), dim=-1)
    return torch.where(quat[..., :1] < 0, -quat, quat)


def quat_to_matrix(q: Tensor) -> Tensor:
    """Unit quaternion (...,4) -> (...,3,3)."""
    q = F.normalize(q, dim=-1)
    w, v = q[..., :1], q[..., 1:]
    eye = torch.eye(3, dtype=q.dtype, device=q.device)
    vv = v[..., :, None] * v[..., None, :]
    dot = (v * v).sum(-1)[..., None, None]
    return (w[..., None] ** 2 - dot) * eye + 2 * vv + 2 * w[..., None] * skew(v)


def quat_to_aa(q: Tensor) -> Tensor:
    """Unit quaternion (...,4) -> axis-angle with angle in [0, pi]; smooth at the identity."""
    q = torch.where(q[..., :1] < 0, -q, q)
    w, v = q[..., 0], q[..., 1:]
    sq = (v * v).sum(-1)
    small = sq < 1e-8
    norm = torch.where(small, torch.ones_like(sq), sq).sqrt()
    factor = torch.where(small, 2 / w.clamp_min(0.5), 2 * torch.atan2(norm, w) / norm)
    return v * factor[..., None]


def matrix_to_aa(m: Tensor) -> Tensor:
    """(...,3,3) -> axis-angle (...,3) with angle in [0, pi]."""
    return quat_to_aa(matrix_to_quat(m))


def rot6d_to_matrix(x: Tensor) -> Tensor:
    """Gram-Schmidt of two columns stored one after the other (Zhou et al. 2019): (...,6) -> (...,3,3)."""
    a, b = x[..., :3], x[..., 3:]
    b1 = F.normalize(a, dim=-1)
    b2 = F.normalize(b - (b1 * b).sum(-1, keepdim=True) * b1, dim=-1)
    return torch.stack([b1, b2, torch.linalg.cross(b1, b2, dim=-1)], -1)


def matrix_to_rot6d(m: Tensor) -> Tensor:
    """First two columns, one after the other: (...,3,3) -> (...,6)."""
    return torch.cat([m[..., 0], m[..., 1]], -1)


def spin_rot6d_to_matrix(x: Tensor) -> Tensor:
    """SPIN's layout of the same: the two columns are interleaved, x.view(3, 2) (SPIN utils/geometry.py)."""
    x = x.reshape(*x.shape[:-1], 3, 2)
    return rot6d_to_matrix(torch.cat([x[..., 0], x[..., 1]], -1))


def matrix_to_spin_rot6d(m: Tensor) -> Tensor:
    """(...,3,3) -> (...,6) with SPIN's interleaved columns."""
    return m[..., :2].flatten(-2)


def geodesic_rad(a: Tensor, b: Tensor) -> Tensor:
    """Angle between two rotations (...,3,3), rad in [0, pi]. Differentiable away from 0 and pi."""
    relative = a.transpose(-1, -2) @ b
    sine = torch.stack(
        [
            relative[..., 2, 1] - relative[..., 1, 2],
            relative[..., 0, 2] - relative[..., 2, 0],
            relative[..., 1, 0] - relative[..., 0, 1],
        ],
        -1,
    ).norm(dim=-1)
    cosine = relative.diagonal(dim1=-2, dim2=-1).sum(-1) - 1
    return torch.atan2(sine, cosine)


def random_rotation(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform rotations (*shape,3,3)."""
    return quat_to_matrix(F.normalize(torch.randn(*shape, 4, generator=generator), dim=-1))


def mirror_pose(pose: Tensor) -> Tensor:
    """The left-right mirror image of SMPL poses (...,24,3): swaps sides, reflects each axis-angle in x = 0."""
    from posegen.body.joint_sets import SMPL24

    order = torch.tensor(SMPL24.mirror, device=pose.device)
    sign = torch.tensor([1.0, -1.0, -1.0], dtype=pose.dtype, device=pose.device)
    return pose.index_select(-2, order) * sign
