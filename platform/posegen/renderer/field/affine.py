"""Small matrices, many at once: products, inverses, linear maps that can always be inverted, what of a map is a turn.

Rows and columns are the first dimensions, (3,3,...): each operation runs along as many numbers as there are matrices.
With them last a scene's maps took a seventh of the time of a picture, in loops of three; like this a twelfth.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_STRETCH = 0.8  # Frobenius norm that the betas' stretch saturates at, so that it can always be inverted
MAX_BEND = 0.9  # and that of the pose's; it bites later, because joints bend the skin more than shapes stretch it


def entries_first(m: Tensor, entries: int) -> Tensor:
    """The last `entries` dimensions, such as rows and columns, come first, in memory too."""
    kept = m.ndim - entries
    return m.permute(*range(kept, m.ndim), *range(kept)).contiguous()


def entries_last(m: Tensor, entries: int) -> Tensor:
    """The inverse of `entries_first`."""
    return m.permute(*range(entries, m.ndim), *range(entries)).contiguous()


def product(a: Tensor, b: Tensor) -> Tensor:
    """Matrices (I,J,...) times matrices (J,L,...) -> (I,L,...)."""
    out = a[:, :1] * b[:1]
    for j in range(1, len(b)):
        out.addcmul_(a[:, j : j + 1], b[j : j + 1])  # in place: new memory costs more than the sum
    return out


def applied(m: Tensor, v: Tensor) -> Tensor:
    """Matrices (I,J,...) times vectors (J,...) -> (I,...)."""
    return product(m, v[:, None])[:, 0]


def eye_like(m: Tensor) -> Tensor:
    """The identity, (3,3,1,...) for matrices (3,3,...)."""
    return torch.eye(3, dtype=m.dtype, device=m.device).view(3, 3, *[1] * (m.ndim - 2))


def inverse_3x3(m: Tensor) -> Tensor:
    """Of (3,3,...), by the adjugate: many small matrices at once, faster than a factorisation of each."""
    wide = torch.cat([m, m[:, :2]], 1)  # rows and columns go on from the first one
    wide = torch.cat([wide, wide[:2]])
    cofactors = torch.addcmul(wide[1:4, 1:4] * wide[2:5, 2:5], wide[1:4, 2:5], wide[2:5, 1:4], value=-1)
    return cofactors.transpose(0, 1) / (m[0] * cofactors[0]).sum(0)


def saturated(linear: Tensor, most: float, sharpness: int) -> Tensor:
    """Linear maps (3,3,...), smoothly scaled to a Frobenius norm under `most`: x (1 + |x/most|^p)^(-1/p).

    With `most` under 1, I + x can be inverted and keeps orientation whatever the input. The sharpness p, a multiple
    of 4, says how late the scaling sets in: at half of `most` it is 1.5 % for 4 and 0.05 % for 8.
    """
    size = (linear * linear).sum((0, 1)) / most**2
    return linear * (1 + size ** (sharpness // 2)) ** (-1 / sharpness)


def turned_back(linear: Tensor, inverse: Tensor) -> Tensor:
    """The inverse of the rotation in maps (3,3,...) that turn and stretch a little: a step of Higham's (1986) Newton
    iteration for the polar factor, transposed. Exact for rotations; the error is of second order in the stretch."""
    return 0.5 * (linear.transpose(0, 1) + inverse)
