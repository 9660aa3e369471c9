"""Arms of one experiment over its trainings: each against `before`, in every measure, and the method against each.

Only the benchmarks count whose images all trainings share; a seed that was run twice counts once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from posegen.arms.registry import BEFORE, names
from posegen.benchmarks.measure.result import BenchmarkResult
from posegen.benchmarks.measure.trainings import Judged, Trainings, judge
from posegen.tracking.report.findings import Estimate
from posegen.tracking.report.run_directory import RunDirectory

MEASURES = {"mpjpe_mm": "MPJPE", "pa_mpjpe_mm": "PA-MPJPE", "pve_mm": "PVE"}  # of an image, lower is better
Results = Mapping[str, Mapping[str, BenchmarkResult]]  # arm -> benchmark


def by_seed(runs: Sequence[RunDirectory]) -> list[RunDirectory]:
    """One run a seed: the first of each."""
    first: dict[str, RunDirectory] = {}
    for run in runs:
        first.setdefault(str(run.summary.get("seed")), run)
    return list(first.values())


def duel(
    trainings: Sequence[Results], first: str, second: str, measure: str = "mpjpe_mm", on: Sequence[str] | None = None
) -> Judged | None:
    """The second arm against the first over trainings and test images; None where they share no benchmark.

    Args:
        on: benchmarks; None: all that the second has.
    """
    benchmarks = {}
    for name in trainings[0].get(second, {}) if on is None else on:
        sides = [[results.get(arm, {}).get(name) for results in trainings] for arm in (first, second)]
        have = [result for side in sides for result in side if result is not None]
        told = all(np.isfinite(result.per_image.get(measure, np.zeros(0))).any() for result in have)
        same = len({(tuple(result.ids), result.protocol) for result in have}) == 1
        if told and same and len(have) == 2 * len(trainings):
            errors = [[r.per_image[measure] for r in side if r is not None] for side in sides]
            benchmarks[name] = Trainings.of(errors[0], errors[1], have[0].groups)
    return judge(benchmarks, 0) if benchmarks else None


def method_against(runs: Sequence[RunDirectory]) -> dict[str, Judged]:
    """arm -> the method against it, in MPJPE."""
    members = by_seed(runs)
    method = members[0].method or ""
    trainings = [run.results for run in members]
    found = {arm: duel(trainings, arm, method) for arm in members[0].arms if arm != method}
    return {arm: judged for arm, judged in found.items() if judged is not None}


def changes(runs: Sequence[RunDirectory]) -> dict[str, dict[str, Judged]]:
    """arm -> what is measured -> the arm against `before`: errors on the benchmarks, MPJPE on each watched set, and in
    the last place MPJPE against the plainest arm."""
    members, plainest = by_seed(runs), names()[0]
    tested, watched = [run.results for run in members], [run.watched for run in members]
    table: dict[str, dict[str, Judged]] = {}
    for arm in members[0].arms:
        if arm == BEFORE:
            continue
        cells = {label: duel(tested, BEFORE, arm, measure) for measure, label in MEASURES.items()}
        for name in watched[0].get(arm, {}):
            cells[f"{name}, MPJPE"] = duel(watched, BEFORE, arm, on=[name])
        if arm != plainest:
            cells[f"MPJPE against {plainest}"] = duel(tested, plainest, arm)
        table[arm] = {label: judged for label, judged in cells.items() if judged is not None}
    return table


def estimate(judged: Judged | None) -> Estimate | None:
    """A judged difference as the tables take it."""
    return None if judged is None else Estimate(judged.value, judged.low, judged.high)


def enough(judged: Judged | None) -> bool:
    """Whether there are enough trainings to call a difference clear."""
    return judged is not None and judged.enough
