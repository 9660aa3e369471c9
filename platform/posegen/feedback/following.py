"""Weights that follow the estimator from round to round: where it still fails, or where its error falls.

A region is any group of samples: those around one of the target's people, or those of one anchor. After each round the
regions' mean errors are taken anew, and the next round draws by

    error       w_a = e_a^p / mean e^p                     what is hard comes more often
    progress    w_a = floor + max(0, e'_a - e_a) / mean    what was learned last comes more often

with e' of the round before. Regions that were not sampled keep the mean.

Dimensions: B samples, A regions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from posegen.errors import DataError


def region_means(errors: Tensor, region: Tensor, regions: int) -> Tensor:
    """The mean error (A,) of each region, and the mean of all where a region has no sample.

    Args:
        errors: (B,) any unit; region: (B,) int64 in [0, A).
    """
    if len(errors) == 0 or not torch.isfinite(errors).all():
        raise DataError("regions need at least one sample and errors that are numbers")
    total = torch.zeros(regions, dtype=errors.dtype).index_add_(0, region, errors)
    count = torch.zeros(regions, dtype=errors.dtype).index_add_(0, region, torch.ones_like(errors))
    return torch.where(count > 0, total / count.clamp_min(1), errors.mean())


def by_error(errors: Tensor, power: float = 1.0) -> Tensor:
    """Weights (A,) of mean 1 by the regions' errors (A,) to a power: 0 weighs all alike."""
    weight = errors.clamp_min(0) ** power
    return weight / weight.mean().clamp_min(1e-12)


def by_progress(before: Tensor, now: Tensor, floor: float = 0.3) -> Tensor:
    """Weights (A,) of mean 1 by how far the regions' errors fell; no region falls below a share of the mean."""
    fall = (before - now).clamp_min(0)
    mean = fall.mean()
    weight = floor + (fall / mean if mean > 0 else torch.ones_like(fall))
    return weight / weight.mean()
