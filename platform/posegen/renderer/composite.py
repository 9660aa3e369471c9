"""Emission and absorption along rays, and the picture over its background.

Packed samples: `ray` says which ray a sample belongs to, samples of a ray are neighbours in order of depth. On CUDA
nerfacc's packed kernels do the work; elsewhere a segmented sum in torch gives the same numbers.

Dimensions: M samples, n rays, D channels.
"""

from __future__ import annotations

import logging
from functools import lru_cache

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def nerfacc_is_usable() -> bool:
    """Whether nerfacc's packed kernels run on this machine's CUDA device. Tried once; the answer is logged."""
    if not torch.cuda.is_available():
        return False
    try:
        import nerfacc

        sigma = torch.ones(3, device="cuda", requires_grad=True)
        start = torch.tensor([0.0, 1.0, 0.0], device="cuda")
        ray = torch.tensor([0, 0, 1], device="cuda")
        weights, _, _ = nerfacc.render_weight_from_density(start, start + 1, sigma, ray_indices=ray, n_rays=2)
        nerfacc.accumulate_along_rays(weights, None, ray_indices=ray, n_rays=2).sum().backward()
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        logger.info("compositing with torch on CUDA: nerfacc's kernels do not run here (%s)", reason)
        return False
    logger.info("compositing with nerfacc's packed CUDA kernels")
    return True


def exclusive_sum(values: Tensor, ray: Tensor) -> Tensor:
    """For each sample the sum of the samples before it on its ray: (M,), (M,) -> (M,).

    The running sum over all rays is kept in float64, so that subtracting a ray's start loses nothing.
    """
    if len(values) == 0:
        return values
    before = values.double().cumsum(0) - values
    starts = torch.ones_like(ray, dtype=torch.bool)
    starts[1:] = ray[1:] != ray[:-1]
    # Selected, not indexed by brackets: that would add a ray's derivatives one after the other on a card
    at_start = before.index_select(0, starts.nonzero()[:, 0])
    return (before - at_start.index_select(0, starts.long().cumsum(0) - 1)).to(values.dtype)


def render_weights(density: Tensor, length_m: Tensor, ray: Tensor, n_rays: int) -> Tensor:
    """Weights w_i = exp(-sum_{j<i} s_j d_j) (1 - exp(-s_i d_i)) of packed samples (Max 1995).

    Args:
        density: (M,) 1/m; length_m: (M,) m, differentiable both.
    """
    if density.is_cuda and density.dtype == torch.float32 and nerfacc_is_usable():
        import nerfacc

        # nerfacc differentiates neither start nor end: the length enters through the density
        start = torch.zeros_like(density)
        weights, _, _ = nerfacc.render_weight_from_density(
            start, start + 1, density * length_m, ray_indices=ray, n_rays=n_rays
        )
        return weights
    return render_weights_torch(density, length_m, ray)


def render_weights_torch(density: Tensor, length_m: Tensor, ray: Tensor) -> Tensor:
    """The same in torch, on any device."""
    optical = density * length_m
    return torch.exp(-exclusive_sum(optical, ray)) * -torch.expm1(-optical)


def accumulate(weights: Tensor, values: Tensor, ray: Tensor, n_rays: int) -> Tensor:
    """Weighted sums along rays and the weights' own: (M,), (M,D), (M,) -> (n,D+1), the last column is alpha."""
    if weights.is_cuda and weights.dtype == torch.float32 and nerfacc_is_usable():
        import nerfacc

        colour = nerfacc.accumulate_along_rays(weights, values, ray_indices=ray, n_rays=n_rays)
        alpha = nerfacc.accumulate_along_rays(weights, None, ray_indices=ray, n_rays=n_rays)
        return torch.cat([colour, alpha], 1)
    return accumulate_torch(weights, values, ray, n_rays)


def accumulate_torch(weights: Tensor, values: Tensor, ray: Tensor, n_rays: int) -> Tensor:
    """The same in torch, on any device."""
    terms = torch.cat([weights[:, None] * values, weights[:, None]], 1)
    return torch.zeros(n_rays, terms.shape[1], dtype=terms.dtype, device=terms.device).index_add(0, ray, terms)


def over(rgb: Tensor, alpha: Tensor, background: Tensor) -> Tensor:
    """Premultiplied rgb (B,3,H,W) and alpha (B,1,H,W) over a background (B,3,H,W) or broadcastable -> image."""
    return rgb + (1 - alpha) * background
