"""Differences between arms, judged over trainings: one training is one draw of what a recipe gives.

With the images fixed, another seed moves an arm's error by as much as arms differ. A difference is therefore called
clear only over at least `FEWEST` trainings of each arm, by an interval that resamples both what could have come out
otherwise: the trainings, and the groups of test images (hierarchical bootstrap, Saravanan et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posegen.benchmarks.measure.statistics import RESAMPLES, Interval, group_draws, percentile_interval
from posegen.errors import DataError
from posegen.seeds import numpy_generator

FEWEST = 5


@dataclass(frozen=True)
class Trainings:
    """Errors of two arms on one benchmark: S trainings of each, the s-th of both with the same seed; N images."""

    first: NDArray[np.float64]  # (S,N)
    second: NDArray[np.float64]  # (S,N)
    groups: tuple[str, ...]  # (N,) clip or sequence

    @classmethod
    def of(cls, first: Sequence[ArrayLike], second: Sequence[ArrayLike], groups: Sequence[str]) -> Trainings:
        """DataError unless both arms have as many trainings, all on the same number of images."""
        sizes = {len(np.asarray(errors)) for errors in (*first, *second)} | {len(groups)}
        if len(first) != len(second) or not first or len(sizes) != 1:
            raise DataError(f"cannot pair {len(first)} and {len(second)} trainings on {sorted(sizes)} images")
        return cls(np.asarray(first, float), np.asarray(second, float), tuple(groups))


@dataclass(frozen=True)
class Judged:
    """A difference of two arms in %, second against first, with what it is made of."""

    value: float
    low: float
    high: float
    trainings: int  # of each arm

    @property
    def enough(self) -> bool:
        return self.trainings >= FEWEST

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0 and is made of enough trainings to say so."""
        return self.enough and (self.low > 0 or self.high < 0)

    def verdict(self, second: str, first: str) -> str:
        """Who errs less, as far as the trainings tell."""
        if not self.enough:
            return few_trainings(self.trainings)
        if not self.clear:
            return "no clear difference"
        return f"{second} errs less" if self.value < 0 else f"{first} errs less"


def few_trainings(number: int) -> str:
    """Why nothing is called clear."""
    each = "one training each" if number == 1 else f"{number} trainings each"
    return f"{each}; needs at least {FEWEST} seeds"


def judge(benchmarks: Mapping[str, Trainings], seed: int, resamples: int = RESAMPLES) -> Judged:
    """Mean over benchmarks of 100 * (mean error second / mean error first - 1), over trainings and test images.

    A draw takes trainings with replacement, the same for all benchmarks and both arms, and of each benchmark groups of
    images with replacement (single images where there is one group).
    """
    counts = {len(data.first) for data in benchmarks.values()}
    if len(counts) != 1:
        raise DataError(f"the benchmarks differ in their number of trainings: {sorted(counts)}")
    (trainings,) = counts
    chosen = numpy_generator(seed, "trainings").multinomial(
        trainings, np.full(trainings, 1 / trainings), size=resamples
    )
    draws, value = np.zeros(resamples), 0.0
    for name, data in benchmarks.items():
        keep: NDArray[np.bool_] = np.asarray(np.isfinite(np.concatenate([data.first, data.second])).all(0))
        if not keep.any():
            return Judged(float("nan"), float("nan"), float("nan"), trainings)
        first, second = data.first[:, keep], data.second[:, keep]
        groups = [group for group, kept in zip(data.groups, keep.tolist(), strict=True) if kept]
        rng = numpy_generator(seed, "average", name)
        # With a single group each image is one of its own.
        drawn = group_draws(groups, rng, resamples) or group_draws(range(len(groups)), rng, resamples)
        if drawn is None:  # one image: only the trainings vary
            drawn = np.zeros(1, np.int64), np.ones((resamples, 1))
        inverse, times = drawn
        # (S,G) sums by group; a draw's sum is trainings x groups, weighted by how often each was drawn.
        sums = [
            np.stack([np.bincount(inverse, weights=row, minlength=times.shape[1]) for row in side])
            for side in (first, second)
        ]
        totals = [np.einsum("rs,sg,rg->r", chosen.astype(float), side, times, optimize=True) for side in sums]
        draws += 100 * (totals[1] / totals[0] - 1) / len(benchmarks)
        value += 100 * float(second.mean() / first.mean() - 1) / len(benchmarks)
    interval: Interval = percentile_interval(value, draws, trainings, "training")
    return Judged(interval.value, interval.low, interval.high, trainings)
