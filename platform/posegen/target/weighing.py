"""How badly an estimator reprojects on the target's people: its error without labels, and the weights that follow.

Dimensions: N people.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from posegen.body.joint_sets import joint_set
from posegen.estimator.crop import crop_of
from posegen.estimator.preprocess import to_float
from posegen.estimator.weak_labels import reprojection_error
from posegen.feedback.following import by_error, by_progress
from posegen.target.crops import TargetCrops
from posegen.target.people import People

BATCH = 32


@torch.no_grad()
def reprojection_errors(
    estimator: Any, people: People, tell: Callable[[int, int], None] = lambda done, total: None
) -> Tensor:
    """The error (N,) of each person in units of half a crop's side; NaN where no joint of the picture is seen.

    Args:
        people: with pictures.
        tell: how many are done, of how many.
    """
    names = joint_set(people.target.joint_set)
    crops = TargetCrops(people, crop_of(estimator), keep_mb=0)
    device = "cpu"
    if isinstance(estimator, torch.nn.Module):
        device = next((str(p.device) for p in estimator.parameters()), "cpu")
        estimator.eval()
    errors = []
    for start in range(0, len(people), BATCH):
        rows = crops.rows(range(start, min(start + BATCH, len(people)))).to(device)
        error = reprojection_error(estimator(to_float(rows.images)), rows.keypoints, names)
        errors.append(error.where((rows.keypoints[..., 2] > 0).any(1), torch.nan).cpu())
        tell(min(start + BATCH, len(people)), len(people))
    return torch.cat(errors)


def weights_of_people(follow: str, now: Tensor, before: Tensor | None, power: float = 1.0) -> Tensor:
    """Weights (N,) of the target's people, of mean 1.

    Args:
        follow: "none": all alike; "error": by the present error to a power; "progress": by how far it fell since the
            round before, alike in the first round.
        now, before: (N,) errors; people without one (NaN) have the mean.
    """
    if follow == "none" or (follow == "progress" and before is None):
        return torch.ones_like(now)
    now = _filled(now)
    if follow == "error":
        return by_error(now, power)
    assert before is not None
    return by_progress(_filled(before), now)


def _filled(errors: Tensor) -> Tensor:
    known = torch.isfinite(errors)
    mean = errors[known].mean() if known.any() else errors.new_ones(())
    return torch.where(known, errors, mean)
