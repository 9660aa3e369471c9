"""Small matrices, many at once: inverses, linear maps that can always be inverted, and what of a map is a turn."""

from __future__ import annotations

import torch
from torch import Tensor

MAX_STRETCH = 0.8  # Frobenius norm that the betas' stretch saturates at, so that it can always be inverted
MAX_BEND = 0.9  # and that of the pose's; it bites later, because joints bend the skin more than shapes stretch it


def applied(m: Tensor, v: Tensor) -> Tensor:
    """Matrices (...,3,3) times vectors (...,3), term by term: for many small ones faster than a batched product."""
    return (m * v[..., None, :]).sum(-1)


def inverse_3x3(m: Tensor) -> Tensor:
    """(...,3,3) by the adjugate: many small matrices at once, faster than a factorisation of each."""
    a, b, c = m.unbind(-2)
    cross = torch.linalg.cross
    adjugate = torch.stack([cross(b, c, dim=-1), cross(c, a, dim=-1), cross(a, b, dim=-1)], -1)
    determinant = (a * adjugate[..., 0]).sum(-1)
    return adjugate / determinant[..., None, None]


def saturated(linear: Tensor, most: float, sharpness: int) -> Tensor:
    """Linear maps (...,3,3), smoothly scaled to a Frobenius norm under `most`: x (1 + |x/most|^p)^(-1/p).

    With `most` under 1, I + x can be inverted and keeps orientation whatever the input. The sharpness p, a multiple
    of 4, says how late the scaling sets in: at half of `most` it is 1.5 % for 4 and 0.05 % for 8.
    """
    size = (linear * linear).sum((-2, -1), keepdim=True) / most**2
    return linear * (1 + size ** (sharpness // 2)) ** (-1 / sharpness)


def turned_back(linear: Tensor, inverse: Tensor) -> Tensor:
    """The inverse of the rotation in maps (...,3,3) that turn and stretch a little: a step of Higham's (1986) Newton
    iteration for the polar factor, transposed. Exact for rotations; the error is of second order in the stretch."""
    return 0.5 * (linear.transpose(-1, -2) + inverse)
