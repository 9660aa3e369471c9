"""Bootstrap intervals of means, over images or over whole groups (clips, sequences).

Neighbouring frames of a clip err alike, so that resampling images makes intervals too narrow; with `groups` whole
groups are drawn with replacement (cluster bootstrap, Field & Welsh 2007): the statistic of a draw is the ratio of the
drawn groups' sums and counts, that is, the mean over all drawn images. With fewer than two groups there is nothing to
draw between and images are drawn; `Interval.unit` tells which was done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posegen.errors import DataError
from posegen.seeds import numpy_generator

RESAMPLES = 4000
_DRAWS_PER_CHUNK = 4_000_000  # bounds the memory of index arrays to about 64 MB


@dataclass(frozen=True)
class Interval:
    """A mean with its percentile bootstrap interval."""

    value: float
    low: float
    high: float
    count: int = 0  # images that the mean is of
    unit: str = "image"  # what was resampled: image or group
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def _columns(*columns: ArrayLike) -> list[NDArray[np.float64]]:
    """One-dimensional float64 copies of equal length, or DataError."""
    arrays = [np.asarray(column, dtype=np.float64).reshape(-1) for column in columns]
    if len({len(array) for array in arrays}) != 1:
        raise DataError(f"cannot pair values of unequal number: {[len(array) for array in arrays]}")
    return arrays


def _resampled_sums(
    columns: Sequence[NDArray[np.float64]], groups: Sequence[object] | None, rng: np.random.Generator, resamples: int
) -> tuple[list[NDArray[np.float64]], NDArray[np.float64], str]:
    """Sums of each column over each resample, the number of images in it, and the unit that was drawn."""
    number = len(columns[0])
    if groups is not None:
        names, inverse = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        if len(names) > 1:
            sizes = np.bincount(inverse, minlength=len(names)).astype(np.float64)
            draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples).astype(np.float64)
            sums = [draws @ np.bincount(inverse, weights=column, minlength=len(names)) for column in columns]
            return sums, draws @ sizes, "group"
    chunk = max(1, _DRAWS_PER_CHUNK // number)
    parts: list[list[NDArray[np.float64]]] = [[] for _ in columns]
    for start in range(0, resamples, chunk):
        index = rng.integers(0, number, size=(min(chunk, resamples - start), number), dtype=np.int32)
        for part, column in zip(parts, columns, strict=True):
            part.append(column[index].sum(-1))
    return [np.concatenate(part) for part in parts], np.full(resamples, float(number)), "image"


def _interval(value: float, draws: NDArray[np.float64], count: int, unit: str, level: float) -> Interval:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), count, unit, level)


def bootstrap_mean(
    values: ArrayLike,
    seed: int,
    groups: Sequence[object] | None = None,
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Interval:
    """The mean of per-image values with its interval; NaN entries are left out."""
    (array,) = _columns(values)
    keep = np.isfinite(array)
    if groups is not None:
        _columns(array, np.zeros(len(groups)))
        groups = [group for group, kept in zip(groups, keep, strict=True) if kept]
    array = array[keep]
    if not len(array):
        return Interval(float("nan"), float("nan"), float("nan"), 0, "image", level)
    (sums,), counts, unit = _resampled_sums([array], groups, numpy_generator(seed, "bootstrap"), resamples)
    return _interval(float(array.mean()), sums / counts, len(array), unit, level)


def paired_bootstrap(
    before: ArrayLike,
    after: ArrayLike,
    seed: int,
    groups: Sequence[object] | None = None,
    *,
    relative: bool = False,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Interval:
    """The mean of after - before over the same images, with its interval: negative where an error went down.

    Args:
        relative: instead, 100 * (mean after / mean before - 1), in %.
        groups: the clip or sequence of each image; whole groups are drawn.
    """
    first, second = _columns(before, after)
    keep = np.isfinite(first) & np.isfinite(second)
    if groups is not None:
        _columns(first, np.zeros(len(groups)))
        groups = [group for group, kept in zip(groups, keep, strict=True) if kept]
    first, second = first[keep], second[keep]
    if not len(first):
        return Interval(float("nan"), float("nan"), float("nan"), 0, "image", level)
    (b, a), counts, unit = _resampled_sums([first, second], groups, numpy_generator(seed, "bootstrap"), resamples)
    if relative:
        value, draws = 100 * (second.mean() / first.mean() - 1), 100 * (a / b - 1)
    else:
        value, draws = float((second - first).mean()), (a - b) / counts
    return _interval(float(value), draws, len(first), unit, level)
