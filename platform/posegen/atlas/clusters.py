"""Groups of pictures that are alike in pose, view and look, with what the estimator's error is like in each.

Groups are made without looking at the error, so that a group's mean is no artefact of having been chosen by it, and so
that the same groups serve before and after fine-tuning.

Dimensions: N pictures, C joints, G groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posegen.atlas.facts import Labels
from posegen.atlas.pose_facts import Numbers
from posegen.atlas.words import FAMILIES, distinct, name_of, shares
from posegen.benchmarks.measure.statistics import Interval, bootstrap_mean, paired_bootstrap, tail_mean

RESAMPLES = 1000
# Many changes are looked at and the largest are told: all intervals together hold with this risk (Bonferroni).
RISK, CHANGES = 0.05, 4000
WORST = 0.1  # share of a group whose mean error is told as well
POOL, TARGET = "pool", "target"
TYPICAL = 20  # pictures that a group has on average, at least
SMALLEST = 8  # pictures of a group that is shown


@dataclass(frozen=True)
class Group:
    """One group of pictures; its number is its rank by mean error, the worst first."""

    number: int
    name: str
    rows: NDArray[np.int64]  # indices into the sample
    mean_mm: Interval
    worst_mm: float  # mean error of its worst tenth
    common: Mapping[str, float]  # source -> share of that source's pictures that are in this group
    carried: Mapping[str, float]  # source -> share of that source's total error that this group has
    parts_mm: Mapping[str, float]  # part of the body, left and right together -> mean error, the largest first
    words: Mapping[str, Mapping[str, float]]  # family -> word -> share of the group's pictures
    after_mm: Interval | None = None
    change_mm: Interval | None = None  # after - before on the same pictures; those of all groups hold together

    @property
    def clearly_worse(self) -> bool:
        return self.change_mm is not None and self.change_mm.low > 0

    @property
    def clearly_better(self) -> bool:
        return self.change_mm is not None and self.change_mm.high < 0


def assign(features: Numbers, groups: int, seed: int) -> NDArray[np.int64]:
    """(N,D) -> (N,) the number of each picture's group, by k-means; fewer groups where there are few pictures."""
    from sklearn.cluster import KMeans

    groups = min(groups, max(2, len(features) // TYPICAL), len(np.unique(features, axis=0)))
    return KMeans(groups, n_init=4, random_state=seed).fit(features).labels_.astype(np.int64)


def describe(
    of_group: NDArray[np.int64],
    errors_mm: Numbers,
    joint_errors_mm: Numbers,
    joint_names: Sequence[str],
    source: Labels,
    words: Mapping[str, Labels],
    seed: int = 0,
    after_mm: Numbers | None = None,
) -> list[Group]:
    """The groups, the worst first.

    Args:
        of_group: (N,); errors_mm: (N,); joint_errors_mm: (N,C); source: (N,) "pool" or "target".
        words: family -> (N,), see posegen.atlas.words.
        after_mm: (N,) errors of the same pictures after fine-tuning.
    """
    numbers = np.unique(of_group)
    numbers = numbers[np.argsort([-errors_mm[of_group == number].mean() for number in numbers], kind="stable")]
    names = distinct([name_of(words, of_group == number) for number in numbers])
    sources = [str(name) for name in np.unique(source)]
    made = []
    for rank, (number, name) in enumerate(zip(numbers, names, strict=True), 1):
        chosen = of_group == number
        own = errors_mm[chosen]
        made.append(
            Group(
                number=rank,
                name=name,
                rows=np.flatnonzero(chosen),
                mean_mm=bootstrap_mean(own, seed, resamples=RESAMPLES),
                worst_mm=tail_mean(own, WORST),
                common={s: float(chosen[source == s].mean()) for s in sources},
                carried={s: float(errors_mm[chosen & (source == s)].sum() / errors_mm[source == s].sum())
                         for s in sources},
                parts_mm=part_errors(joint_errors_mm[chosen], joint_names),
                words={family.name: shares(words[family.name][chosen]) for family in FAMILIES},
                after_mm=None if after_mm is None else bootstrap_mean(after_mm[chosen], seed, resamples=RESAMPLES),
                change_mm=None if after_mm is None
                else paired_bootstrap(own, after_mm[chosen], seed, resamples=CHANGES, level=1 - RISK / len(numbers)),
            )
        )  # fmt: skip
    return made


def part_errors(joint_errors_mm: Numbers, joint_names: Sequence[str]) -> dict[str, float]:
    """Mean error of each part of the body, left and right together, the largest first; the root (0) is left out."""
    sums: dict[str, list[float]] = {}
    for index, name in enumerate(joint_names):
        part = name.removeprefix("left_").removeprefix("right_")
        sums.setdefault(part, []).append(float(joint_errors_mm[:, index].mean()))
    means = {part: float(np.mean(values)) for part, values in sums.items()}
    return {part: mean for part, mean in sorted(means.items(), key=lambda item: -item[1]) if mean > 1e-6}


def shown_rows(rows: NDArray[np.int64], errors_mm: Numbers, count: int) -> list[int]:
    """Pictures of a group from its median to its worst, evenly spaced in rank, the worst first."""
    order = rows[np.argsort(errors_mm[rows], kind="stable")]
    first = len(order) // 2 if len(order) >= 2 * count else 0
    places = np.unique(np.linspace(first, len(order) - 1, min(count, len(order))).round().astype(int))
    return [int(row) for row in order[places][::-1]]


def worst(groups: Sequence[Group], count: int) -> list[Group]:
    """The worst groups that are large enough to say something."""
    return [group for group in groups if len(group.rows) >= SMALLEST][:count]


def regressions(groups: Sequence[Group]) -> list[Group]:
    """Groups that got clearly worse, the largest loss first."""
    return sorted((g for g in groups if g.clearly_worse), key=lambda g: -g.change_mm.value)  # type: ignore[union-attr]


def mended(groups: Sequence[Group]) -> list[Group]:
    """Groups that got clearly better, the largest gain first."""
    return sorted((g for g in groups if g.clearly_better), key=lambda g: g.change_mm.value)  # type: ignore[union-attr]
