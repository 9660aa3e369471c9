"""Which arm of a run won, by a rule that is stated: chosen on one half of the test images, told on the other.

Rule: the groups (clips, sequences) of each benchmark of the suite are parted by the parity of their names' sha256. On
the even half, the arm with the lowest mean over the benchmarks of `MPJPE / MPJPE before` wins; the estimator as it was
takes part, so that nothing wins where nothing helped. The odd half, which had no part in the choice, says how good it
is. What is watched beside the suite takes no part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posegen.arms.registry import BEFORE
from posegen.tracking.report.run_directory import RunDirectory

RULE = (
    "lowest mean of MPJPE / MPJPE before over the suite, on the half of each benchmark's groups whose names have an "
    "even sha256; the other half gives the score that is told"
)


@dataclass(frozen=True)
class Score:
    """Mean over the benchmarks of MPJPE relative to `before`: 0.9 is a tenth less error."""

    chosen_by: float  # on the even half
    told: float  # on the odd half, NaN where there is none


def scores(run: RunDirectory) -> dict[str, Score]:
    """arm -> its score; empty where the run measured nothing, or has one group only."""
    found: dict[str, Score] = {}
    for arm in run.arms:
        halves: tuple[list[float], list[float]] = ([], [])
        for before, after in run.paired(BEFORE, arm).values():
            even = _even(before.groups)
            for half, ratios in zip((even, ~even), halves, strict=True):
                ratio = _ratio(before.per_image, after.per_image, half)
                if np.isfinite(ratio):
                    ratios.append(ratio)
        if halves[0]:
            found[arm] = Score(float(np.mean(halves[0])), float(np.mean(halves[1])) if halves[1] else float("nan"))
    return found


def champion(run: RunDirectory) -> str | None:
    """The arm that won; None where nothing was measured."""
    found = scores(run)
    return min(found, key=lambda arm: found[arm].chosen_by) if found else None  # the first of equals: `before` is first


def measured_on(run: RunDirectory) -> str:
    """A digest of what scores of a run were measured on and how: scores under one digest can be compared."""
    told = sorted((name, result.protocol, *result.ids) for name, result in run.results.get(BEFORE, {}).items())
    return hashlib.sha256(repr((RULE, told)).encode()).hexdigest()[:16]


def _even(groups: list[str]) -> NDArray[np.bool_]:
    return np.array([hashlib.sha256(group.encode()).digest()[-1] % 2 == 0 for group in groups], dtype=bool)


def _ratio(
    before: Mapping[str, NDArray[np.float64]], after: Mapping[str, NDArray[np.float64]], half: NDArray[np.bool_]
) -> float:
    first, second = before["mpjpe_mm"][half], after["mpjpe_mm"][half]
    both = np.isfinite(first) & np.isfinite(second)
    return float(second[both].mean() / first[both].mean()) if both.any() else float("nan")
