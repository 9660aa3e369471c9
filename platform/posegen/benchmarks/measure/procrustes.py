"""Similarity (Procrustes) alignment of point sets, batched, in float64.

For each item finds scale s >= 0, proper rotation R and translation t that minimise sum_i |s R x_i + t - y_i|^2
(Umeyama 1991, eqs. 38-43; the same optimum as SPIN utils/pose_utils.py and the AGORA evaluation). With centred points
and K = sum_i x_i y_i^T = U S V^T: R = V Z U^T, Z = diag(1, 1, det(V U^T)), s = tr(Z S) / sum_i |x_i|^2.

Degenerate inputs have defined answers instead of NaN:
- coplanar or collinear points: the smallest singular value is 0; any of the optimal rotations is taken, a proper one.
- mirrored points: reflections are not allowed, so the error stays.
- no variance in x (or one point): R = I, s = 0 with more than one point (all of x on the mean of y), s = 1 with one.
- no variance in y: s = 0, R = I, and the aligned points coincide with y.
- NaN or infinite points: NaN for that item alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Similarity:
    """x -> scale * R x + t for each item of a batch, float64."""

    scale: Tensor  # (B,)
    R: Tensor  # (B,3,3), det +1
    t: Tensor  # (B,3)

    def apply(self, points: Tensor) -> Tensor:
        """(B,N,3) -> (B,N,3) float64."""
        rotated = points.to(self.R.dtype) @ self.R.transpose(-1, -2)
        return self.scale[:, None, None] * rotated + self.t[:, None]


def similarity(source: Tensor, target: Tensor, valid: Tensor | None = None) -> Similarity:
    """The similarity that takes source (B,N,3) closest to target (B,N,3).

    Args:
        valid: (B,N) bool, the points that count; all of them by default. Items without any keep the identity.
    """
    x, y = source.to(torch.float64), target.to(torch.float64)
    weight = torch.ones(x.shape[:2], dtype=x.dtype, device=x.device) if valid is None else valid.to(x.dtype)
    if valid is not None:  # a NaN times zero would stay NaN
        x, y = torch.where(valid[..., None], x, 0.0), torch.where(valid[..., None], y, 0.0)
    w = weight[..., None]
    number = weight.sum(-1).clamp_min(1)[:, None]
    mean_x, mean_y = (w * x).sum(1) / number, (w * y).sum(1) / number
    x, y = w * (x - mean_x[:, None]), w * (y - mean_y[:, None])
    variance = (x * x).sum((-1, -2))
    k = x.transpose(-1, -2) @ y
    eye = torch.eye(3, dtype=x.dtype, device=x.device).expand_as(k)
    # Rounding leaves a variance of about (eps * magnitude)^2 where there is none.
    size_x = mean_x.square().sum(-1) + variance
    size_y = mean_y.square().sum(-1) + y.square().sum((-1, -2))
    flat = (variance <= 1e-24 * size_x) | (y.square().sum((-1, -2)) <= 1e-24 * size_y)
    broken = ~torch.isfinite(k).all(-1).all(-1)
    u, s, vh = torch.linalg.svd(torch.where((flat | broken)[:, None, None], eye, k))
    v = vh.transpose(-1, -2)
    sign = torch.linalg.det(v @ u.transpose(-1, -2)).sign()
    z = torch.ones_like(s)
    z[:, -1] = sign
    rotation = torch.where(flat[:, None, None], eye, (v * z[:, None]) @ u.transpose(-1, -2))
    scale = (z * s).sum(-1) / torch.where(flat, torch.ones_like(variance), variance)
    one_point = weight.sum(-1) <= 1
    scale = torch.where(flat, one_point.to(scale.dtype), scale)
    scale = torch.where(broken, torch.nan, scale)
    t = mean_y - scale[:, None] * (rotation @ mean_x[..., None])[..., 0]
    return Similarity(scale, rotation, t)


def procrustes(source: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Source points (B,N,3) moved as near to the target as a similarity can, float64, in the target's frame."""
    return similarity(source, target, valid).apply(source)
