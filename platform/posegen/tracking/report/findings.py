"""What a run found, in numbers and in a sentence: method against `before`, method against the baselines.

Every difference is `second - first` over the same images. An interval that includes 0 is no finding; a difference of
two single trainings is none either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from posegen.benchmarks.measure.trainings import few_trainings
from posegen.tracking.report.run_directory import RunDirectory
from posegen.tracking.report.style import arm_look

HIGHER_IS_BETTER = frozenset({"pck_150", "auc"})
METRIC_NAMES = {
    "mpjpe_mm": "MPJPE (mm)",
    "pa_mpjpe_mm": "PA-MPJPE (mm)",
    "pve_mm": "PVE (mm)",
    "pck_150": "PCK@150 (%)",
    "auc": "AUC (%)",
    "wrong_way_round": "wrong way round (%)",
    "worst_5_mm": "worst 5 % (mm)",
    "worst_10_mm": "worst 10 % (mm)",
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


@dataclass(frozen=True)
class Rivalry:
    """The method against one baseline: the mean over the benchmarks of the relative difference of MPJPE, in %.

    Both are what came of one training: the interval is of the test images only, so that it settles nothing between the
    two recipes. `posegen compare` judges them over seeds.
    """

    baseline: str
    difference: Estimate  # method relative to baseline; negative: the method errs less


def rivalries(run: RunDirectory, seed: int = 0) -> list[Rivalry]:
    """The method against each baseline on the same test images, paired."""
    from posegen.benchmarks.measure.statistics import average_relative_change

    found = []
    for arm in run.arms:
        if run.method is None or arm in ("before", run.method):
            continue
        pairs = {
            name: (baseline.per_image["mpjpe_mm"], method.per_image["mpjpe_mm"], baseline.groups)
            for name, (baseline, method) in run.paired(arm, run.method).items()
        }
        interval = average_relative_change(pairs, seed)
        if interval.count:
            found.append(Rivalry(arm, Estimate(interval.value, interval.low, interval.high).times(100.0)))
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
    """The method against every baseline, the best of them first, and what one training of each can tell."""
    if not rivals or run.method is None:
        return ""
    ordered = sorted(rivals, key=lambda rival: -rival.difference.value)
    said = [f"{arm_look(rival.baseline).label} ({signed(rival.difference.value)} %)" for rival in ordered]
    return (
        f"{arm_look(run.method).label}'s error against that of the baselines at equal budget: {_and(said)}. No "
        f"difference between them is settled: {few_trainings(1)}."
    )


KEEPING = "finetune.keep=distill finetune.keep_weight=15"


def kept_sentence(run: RunDirectory) -> str:
    """Whether the method kept what the estimator knew, from what is watched beside the benchmarks, and what helps where
    it did not; empty if nothing is watched."""
    said, worse = [], False
    for name, by_arm in (run.summary.get("watched") or {}).items():
        method = run.method or ""
        before, after = (Estimate.of(by_arm.get("arms", {}).get(arm, {}).get("mpjpe_mm")) for arm in ("before", method))
        change = Estimate.of(by_arm.get("difference", {}).get(method, {}).get("mpjpe_mm"))
        if before is None or after is None or change is None:
            continue
        verdict = {"better": "clearly better", "worse": "clearly worse", "unclear": "no clear change"}
        told = direction("mpjpe_mm", change)
        worse |= told == "worse"
        said.append(f"{name} {before.value:.1f} → {after.value:.1f} mm ({verdict[told]})")
    if not said:
        return ""
    tuned = (run.summary.get("config") or {}).get("finetune") or {}
    advice = f" More of it is kept by {KEEPING} and more source rows (dataset.source_images)."
    return f"What the estimator knew before: {_and(said)}." + (advice if worse and tuned.get("keep") == "none" else "")


def unmoved_sentence(run: RunDirectory) -> str:
    """Which arms ended with the weights that they began with, for a guard found all others worse; empty if none did."""
    told = run.summary.get("budget") or {}
    still = [arm_look(arm).label for arm in run.arms if told.get(arm, {}).get("kept_step") == 0]
    if not still:
        return ""
    return (
        f"Fine-tuning moved nothing for {_and(still)}: at every check held-out rows were worse than at the start, by "
        "more than chance, so the weights from before were kept. Another finetune.learning_rate, more steps or images "
        "may move it."
    )


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
