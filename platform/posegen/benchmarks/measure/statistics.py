"""Bootstrap intervals of means, tails and averages, over images or over whole groups (clips, sequences): the one place
where an interval is made. Differences between trainings are judged by posegen.benchmarks.measure.trainings.

Neighbouring frames of a clip err alike, so that resampling images makes intervals too narrow; with `groups` whole
groups are drawn with replacement (cluster bootstrap, Field & Welsh 2007): the statistic of a draw is the ratio of the
drawn groups' sums and counts, that is, the mean over all drawn images. With fewer than two groups there is nothing to
draw between and images are drawn; `Interval.unit` tells which was done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


Pair = tuple[ArrayLike, ArrayLike, Sequence[object] | None]  # values of images before, after, and their groups


def _columns(*columns: ArrayLike) -> list[NDArray[np.float64]]:
    """One-dimensional float64 copies of equal length, or DataError."""
    arrays = [np.asarray(column, dtype=np.float64).reshape(-1) for column in columns]
    if len({len(array) for array in arrays}) != 1:
        raise DataError(f"cannot pair values of unequal number: {[len(array) for array in arrays]}")
    return arrays


def _finite(
    columns: Sequence[ArrayLike], groups: Sequence[object] | None
) -> tuple[list[NDArray[np.float64]], list[object] | None]:
    """The images that have a number in every column, and their groups."""
    arrays = _columns(*columns)
    keep: NDArray[np.bool_] = np.asarray(np.isfinite(np.stack(arrays)).all(0))
    if groups is not None:
        _columns(arrays[0], np.zeros(len(groups)))
        groups = [group for group, kept in zip(groups, keep.tolist(), strict=True) if kept]
    return [array[keep] for array in arrays], groups


def group_draws(
    groups: Sequence[object] | None, rng: np.random.Generator, resamples: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Of each image its group's number (N,), and how often each draw takes each group (resamples, groups).

    None where there are fewer than two groups: nothing can be drawn between them.
    """
    if groups is None:
        return None
    names, inverse = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        return None
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples).astype(np.float64)
    return inverse, draws


def resampled_sums(
    columns: Sequence[NDArray[np.float64]], groups: Sequence[object] | None, rng: np.random.Generator, resamples: int
) -> tuple[list[NDArray[np.float64]], NDArray[np.float64], str]:
    """Sums of each column over each resample, the number of images in it, and the unit that was drawn."""
    number = len(columns[0])
    drawn = group_draws(groups, rng, resamples)
    if drawn is not None:
        inverse, draws = drawn
        count = draws.shape[1]
        sums = [draws @ np.bincount(inverse, weights=column, minlength=count) for column in columns]
        return sums, draws @ np.bincount(inverse, minlength=count).astype(np.float64), "group"
    chunk = max(1, _DRAWS_PER_CHUNK // number)
    parts: list[list[NDArray[np.float64]]] = [[] for _ in columns]
    for start in range(0, resamples, chunk):
        index = rng.integers(0, number, size=(min(chunk, resamples - start), number), dtype=np.int32)
        for part, column in zip(parts, columns, strict=True):
            part.append(column[index].sum(-1))
    return [np.concatenate(part) for part in parts], np.full(resamples, float(number)), "image"


def percentile_interval(
    value: float, draws: NDArray[np.float64], count: int, unit: str, level: float = 0.95
) -> Interval:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), count, unit, level)


def _nothing(level: float) -> Interval:
    return Interval(float("nan"), float("nan"), float("nan"), 0, "image", level)


def bootstrap_mean(
    values: ArrayLike,
    seed: int,
    groups: Sequence[object] | None = None,
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Interval:
    """The mean of per-image values with its interval; NaN entries are left out."""
    (array,), groups = _finite([values], groups)
    if not len(array):
        return _nothing(level)
    (sums,), counts, unit = resampled_sums([array], groups, numpy_generator(seed, "bootstrap"), resamples)
    return percentile_interval(float(array.mean()), sums / counts, len(array), unit, level)


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
    (first, second), groups = _finite([before, after], groups)
    if not len(first):
        return _nothing(level)
    (b, a), counts, unit = resampled_sums([first, second], groups, numpy_generator(seed, "bootstrap"), resamples)
    if relative:
        value, draws = 100 * (second.mean() / first.mean() - 1), 100 * (a / b - 1)
    else:
        value, draws = float((second - first).mean()), (a - b) / counts
    return percentile_interval(float(value), draws, len(first), unit, level)


def average_relative_change(
    pairs: Mapping[str, Pair], seed: int, *, resamples: int = RESAMPLES, level: float = 0.95
) -> Interval:
    """Mean over benchmarks of mean after / mean before - 1, a fraction, with its interval.

    Each benchmark is resampled by itself, by groups where it has several and by images where it has one, and every
    draw is averaged over the benchmarks. NaN where a benchmark has no image with both numbers.

    Args:
        pairs: benchmark -> per-image values before, after, and the images' groups.
    """
    draws, value, count = np.zeros(resamples), 0.0, 0
    units = set()
    for name, (before, after, of_images) in pairs.items():
        (first, second), groups = _finite([before, after], of_images)
        if not len(first):
            return _nothing(level)
        (b, a), _, unit = resampled_sums([first, second], groups, numpy_generator(seed, "average", name), resamples)
        draws += (a / b - 1) / len(pairs)
        value += float(second.mean() / first.mean() - 1) / len(pairs)
        count += len(first)
        units.add(unit)
    if not pairs:
        return _nothing(level)
    return percentile_interval(value, draws, count, "group" if units == {"group"} else "image", level)


def tail_mean(values: ArrayLike, share: float) -> float:
    """Mean of the largest `share` of the values (at least one of them); NaN entries are left out."""
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    array = array[np.isfinite(array)]
    return float(_tails(array, np.ones((1, len(array))), share)[0]) if len(array) else float("nan")


def _tails(values: NDArray[np.float64], weights: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Mean of the largest `share` of values (N,) that occur `weights (R,N)` times each: (R,)."""
    order = np.argsort(-values, kind="stable")
    times = weights[:, order]
    wanted = np.maximum(np.ceil(share * times.sum(-1, keepdims=True) - 1e-9), 1.0)
    before = np.cumsum(times, -1) - times
    taken = np.clip(wanted - before, 0.0, times)
    return (taken @ values[order]) / wanted[:, 0]


def bootstrap_tail(
    values: ArrayLike,
    share: float,
    seed: int,
    groups: Sequence[object] | None = None,
    *,
    minus: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Interval:
    """The mean of the largest `share` of per-image values with its interval.

    Args:
        minus: values of the same images; their own tail is taken off in every draw. The two tails may be of other
            images: what is compared is how bad the bad cases are.
    """
    columns, groups = _finite([values] if minus is None else [values, minus], groups)
    number = len(columns[0])
    if not number:
        return _nothing(level)
    rng = numpy_generator(seed, "bootstrap")
    drawn = group_draws(groups, rng, resamples)
    chunk = max(1, _DRAWS_PER_CHUNK // number)
    parts = []
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        if drawn is not None:
            weights = drawn[1][start : start + rows][:, drawn[0]]
        else:
            weights = rng.multinomial(number, np.full(number, 1 / number), size=rows).astype(np.float64)
        tails = [_tails(column, weights, share) for column in columns]
        parts.append(tails[0] if minus is None else tails[0] - tails[1])
    value = tail_mean(columns[0], share) - (0.0 if minus is None else tail_mean(columns[1], share))
    return percentile_interval(value, np.concatenate(parts), number, "image" if drawn is None else "group", level)
