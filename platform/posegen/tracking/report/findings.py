"""What a run found, in numbers and in a sentence: method against `before`, method against the baselines.

Every difference is `second - first` over the same images. An interval that includes 0 is no finding, and a baseline
that does better is said to do better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from posegen.tracking.report.run_directory import RunDirectory
from posegen.tracking.report.style import arm_look

HIGHER_IS_BETTER = frozenset({"pck_150", "auc"})
METRIC_NAMES = {
    "mpjpe_mm": "MPJPE (mm)",
    "pa_mpjpe_mm": "PA-MPJPE (mm)",
    "pve_mm": "PVE (mm)",
    "pck_150": "PCK@150 (%)",
    "auc": "AUC (%)",
}


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, cell: Mapping[str, Any] | None) -> Estimate | None:
        """From {value, low, high} of summary.json; None where there is no number."""
        if not cell or cell.get("value") is None or not math.isfinite(cell["value"]):
            return None
        value = float(cell["value"])
        low, high = cell.get("low"), cell.get("high")
        return cls(value, value if low is None else float(low), value if high is None else float(high))

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    def times(self, factor: float) -> Estimate:
        ends = sorted((self.low * factor, self.high * factor))
        return Estimate(self.value * factor, ends[0], ends[1])


def signed(value: float) -> str:
    """One decimal with its sign, the minus as it is printed; what rounds to zero has none."""
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def direction(metric: str, difference: Estimate) -> str:
    """`better`, `worse`, or `unclear` where the interval includes 0."""
    if not difference.clear:
        return "unclear"
    return "better" if (difference.value > 0) == (metric in HIGHER_IS_BETTER) else "worse"


def mean_of(estimates: Iterable[Estimate]) -> Estimate | None:
    """The mean of independent estimates; the intervals' halves are added in quadrature, each side for itself."""
    parts = list(estimates)
    if not parts:
        return None
    value = float(np.mean([e.value for e in parts]))
    below = math.sqrt(sum((e.value - e.low) ** 2 for e in parts)) / len(parts)
    above = math.sqrt(sum((e.high - e.value) ** 2 for e in parts)) / len(parts)
    return Estimate(value, value - below, value + above)


@dataclass(frozen=True)
class Rivalry:
    """The method against one baseline: the mean over the benchmarks of the relative difference of MPJPE, in %."""

    baseline: str
    difference: Estimate  # method relative to baseline; negative: the method errs less

    def verdict(self, method: str) -> str:
        """Who errs less, the interval permitting."""
        if not self.difference.clear:
            return "no clear difference"
        return f"{method} errs less" if self.difference.value < 0 else "the baseline errs less"


def rivalries(run: RunDirectory, seed: int = 0) -> list[Rivalry]:
    """The method against each baseline on the same test images, paired."""
    from posegen.benchmarks.measure.statistics import paired_bootstrap

    found = []
    for arm in run.arms:
        if run.method is None or arm in ("before", run.method):
            continue
        parts = []
        for baseline, method in run.paired(arm, run.method).values():
            interval = paired_bootstrap(
                baseline.per_image["mpjpe_mm"], method.per_image["mpjpe_mm"], seed, baseline.groups, relative=True
            )
            parts.append(Estimate(interval.value, interval.low, interval.high))
        mean = mean_of(parts)
        if mean is not None:
            found.append(Rivalry(arm, mean))
    return found


def average_change(summary: Mapping[str, Any], arm: str) -> Estimate | None:
    """Mean relative change of MPJPE over the benchmarks in %, from the summary's fractions."""
    estimate = Estimate.of(summary.get("average", {}).get(arm, {}).get("relative_mpjpe"))
    return None if estimate is None else estimate.times(100.0)


def finding_sentence(run: RunDirectory) -> str:
    """What fine-tuning did, without more confidence than the intervals give."""
    method = run.method
    if method is None and run.summary and run.births():
        medians = [
            f"{arm_look(arm).label} {float(np.nanmedian(errors)):.0f} mm" for arm, errors in run.births().items()
        ]
        return (
            "Nothing was fine-tuned: the estimator has no weights of its own. Its median error on the images made for "
            f"it: {_and(medians)}."
        )
    change = average_change(run.summary, method) if method else None
    if method is None or change is None:
        return "This run has not come to a result: its summary holds no average over the benchmarks."
    benchmarks = run.summary.get("benchmarks", {})
    verdicts = [
        direction("mpjpe_mm", difference)
        for by_arm in benchmarks.values()
        if (difference := Estimate.of(by_arm.get("difference", {}).get(method, {}).get("mpjpe_mm")))
    ]
    count = len(verdicts)
    label = arm_look(method).label
    if change.clear:
        verb = "lowered" if change.value < 0 else "raised"
        text = f"Fine-tuning on {label} images {verb} the error (MPJPE) by {abs(change.value):.1f} % {_range(change)}"
    else:
        text = f"Fine-tuning on {label} images made no clear difference: MPJPE changed by {signed(change.value)} %"
        text += f" [{signed(change.low)}, {signed(change.high)}]"
    text += f" on average over {number_word(count)} benchmark{'s' * (count != 1)}{_counts(verdicts)}."
    return text


def rival_sentence(run: RunDirectory, rivals: list[Rivalry]) -> str:
    """Names every baseline that beats the method, then what the method beats."""
    if not rivals or run.method is None:
        return ""
    label = arm_look(run.method).label
    lost = [r for r in rivals if r.difference.low > 0]
    won = [r for r in rivals if r.difference.high < 0]
    even = [r for r in rivals if not r.difference.clear]

    def listed(chosen: list[Rivalry], by: str = "by ") -> str:
        said = [f"{abs(r.difference.value):.1f}" if by else signed(r.difference.value) for r in chosen]
        return _and([f"{arm_look(r.baseline).label} ({by}{text} %)" for r, text in zip(chosen, said, strict=True)])

    parts = []
    if lost:
        does = "does" if len(lost) == 1 else "do"
        parts.append(f"{'A baseline' if len(lost) == 1 else 'Baselines'} at equal budget {does} better than {label}: "
                     f"{listed(lost)}.")  # fmt: skip
    if won:
        parts.append(f"{label} errs less than {listed(won)}.")
    if even:
        parts.append(f"No clear difference from {listed(even, by='')}.")
    return " ".join(parts)


def kept_sentence(run: RunDirectory) -> str:
    """Whether the method kept what the estimator knew, from what is watched beside the benchmarks; empty if nothing."""
    said = []
    for name, by_arm in (run.summary.get("watched") or {}).items():
        method = run.method or ""
        before, after = (Estimate.of(by_arm.get("arms", {}).get(arm, {}).get("mpjpe_mm")) for arm in ("before", method))
        change = Estimate.of(by_arm.get("difference", {}).get(method, {}).get("mpjpe_mm"))
        if before is None or after is None or change is None:
            continue
        verdict = {"better": "clearly better", "worse": "clearly worse", "unclear": "no clear change"}
        said.append(f"{name} {before.value:.1f} → {after.value:.1f} mm ({verdict[direction('mpjpe_mm', change)]})")
    return f"What the estimator knew before: {_and(said)}." if said else ""


def _counts(verdicts: list[str]) -> str:
    """`, clearly better on each`, or how many of each kind."""
    if verdicts and len(set(verdicts)) == 1 and verdicts[0] != "unclear":
        return f", clearly {verdicts[0]} on each"
    words = {"better": "clearly better on", "worse": "clearly worse on", "unclear": "unclear on"}
    counted = [
        f"{text} {number_word(verdicts.count(verdict))}" for verdict, text in words.items() if verdict in verdicts
    ]
    return f": {_and(counted)}" if counted else ""


def _range(change: Estimate) -> str:
    ends = sorted((abs(change.low), abs(change.high)))
    return f"[{ends[0]:.1f},\N{NO-BREAK SPACE}{ends[1]:.1f}]"


def number_word(count: int) -> str:
    """Small counts as words."""
    words = ("no", "one", "two", "three", "four", "five", "six")
    return words[count] if count < len(words) else str(count)


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
