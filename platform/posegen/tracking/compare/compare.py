"""Runs side by side: what each found, their paired difference on the same test images, and several seeds as one.

    compare([Path("outputs/a"), Path("outputs/b")], out=Path("outputs/compare.html"), as_json=Path("compare.json"))

Pairs are made of runs whose test images agree (the same ids in the same order); the first run is the reference. Runs
that differ in nothing but their seed are pooled: mean and spread over the seeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from posegen.arms.registry import in_order
from posegen.benchmarks.measure.trainings import Judged
from posegen.errors import DataError
from posegen.experiment.going_on import go_on
from posegen.files.atomic import write_text
from posegen.tracking.compare.judged import changes, method_against
from posegen.tracking.compare.settings import against, setting_names, what_it_does
from posegen.tracking.report.findings import Estimate, average_change
from posegen.tracking.report.run_directory import RunDirectory
from posegen.tracking.store.names import flatten


@dataclass(frozen=True)
class RunFacts:
    """One run of the comparison."""

    run: str
    path: str
    experiment: str
    seed: Any
    git_commit: str
    created: str
    method: str
    mpjpe_mm: dict[str, dict[str, Estimate]]  # benchmark -> arm
    pa_mpjpe_mm: dict[str, dict[str, Estimate]]
    wrong_way_round: dict[str, dict[str, Estimate]]  # %
    change: dict[str, Estimate]  # arm -> mean relative change of MPJPE, %


@dataclass(frozen=True)
class Paired:
    """The second run's method minus the first one's, on the same test images: one training each, so never judged."""

    reference: str
    run: str
    difference_mm: dict[str, Estimate]  # benchmark -> MPJPE
    relative_percent: Estimate | None  # mean of the benchmarks' relative differences
    unpaired: dict[str, str]  # benchmark -> why there is no pair


@dataclass(frozen=True)
class Spread:
    """A number over seeds."""

    mean: float
    sd: float  # sample standard deviation over seeds
    low: float
    high: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        array = np.asarray(values, float)
        sd = float(array.std(ddof=1)) if len(array) > 1 else math.nan
        return cls(float(array.mean()), sd, float(array.min()), float(array.max()), tuple(map(float, array)))


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ in their seed only."""

    experiment: str
    setting: str  # what sets it apart from the other groups, "" for one alone
    runs: list[str]
    seeds: list[Any]
    change: dict[str, Spread]  # arm -> mean relative change of MPJPE over the benchmarks, %
    mpjpe_mm: dict[str, dict[str, Spread]]  # benchmark -> arm
    pa_mpjpe_mm: dict[str, dict[str, Spread]]
    wrong_way_round: dict[str, dict[str, Spread]]  # %
    method: str
    judged: dict[str, Judged]  # arm -> the method against it, over trainings and test images
    changes: dict[str, dict[str, Judged]]  # arm -> what is measured -> the arm against before, likewise
    against_first: Judged | None  # the method against the first group's, on the same seeds; None for the first itself


@dataclass(frozen=True)
class Comparison:
    """Everything the page, the JSON file and the terminal table show."""

    runs: list[RunFacts]
    benchmarks: list[str]
    arms: list[str]
    paired: list[Paired]
    seeds: list[SeedGroup]
    config_differences: dict[str, list[str]]  # key -> its value in each run
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """JSON-serialisable; a number that is not finite becomes null."""
        return _jsonable(asdict(self))


def compare(run_dirs: Sequence[Path], out: Path | None = None, as_json: Path | None = None) -> Comparison:
    """Compares finished runs.

    Args:
        run_dirs: their directories; the first is the reference of the pairs.
        out: where to write the page, None for no page.
        as_json: where to write the numbers for machines.

    Raises:
        DataError: a directory holds no finished run.
    """
    runs = [RunDirectory(path) for path in run_dirs]
    for run in runs:
        if run.summary_problem is not None:
            raise DataError(
                f"{run.summary_problem}; only finished runs can be compared",
                where=run.path,
                next_command=go_on(run.path),
            )
    comparison = Comparison(
        runs=[_facts(run) for run in runs],
        benchmarks=list(dict.fromkeys(name for run in runs for name in run.summary.get("benchmarks", {}))),
        arms=in_order({arm for run in runs for arm in run.arms}),
        paired=[_pair(runs[0], run) for run in runs[1:]],
        seeds=_seed_groups(runs),
        config_differences=_config_differences(runs),
        problems=[f"{run.name}: {line}" for run in runs for line in run.damaged],
    )
    if as_json is not None:
        write_text(as_json, json.dumps(comparison.as_dict(), indent=1, allow_nan=False) + "\n")
    if out is not None:
        from posegen.tracking.compare.page import write_page

        write_page(comparison, out)
    return comparison


def _facts(run: RunDirectory) -> RunFacts:
    summary = run.summary
    changes = {arm: average_change(summary, arm) for arm in run.arms if arm != "before"}
    return RunFacts(
        run=run.name,
        path=str(run.path),
        experiment=str(summary.get("experiment", "")),
        seed=summary.get("seed"),
        git_commit=str(summary.get("git_commit") or ""),
        created=str(summary.get("created", "")),
        method=run.method or "",
        mpjpe_mm=_cells(summary, "mpjpe_mm"),
        pa_mpjpe_mm=_cells(summary, "pa_mpjpe_mm"),
        wrong_way_round=_cells(summary, "wrong_way_round"),
        change={arm: change for arm, change in changes.items() if change is not None},
    )


def _cells(summary: Mapping[str, Any], metric: str) -> dict[str, dict[str, Estimate]]:
    """benchmark -> arm, where there is a number."""
    found: dict[str, dict[str, Estimate]] = {}
    for benchmark, by_arm in summary.get("benchmarks", {}).items():
        cells = {arm: Estimate.of(metrics.get(metric)) for arm, metrics in by_arm.get("arms", {}).items()}
        found[benchmark] = {arm: cell for arm, cell in cells.items() if cell is not None}
    return found


def _pair(reference: RunDirectory, other: RunDirectory) -> Paired:
    from posegen.benchmarks.measure.statistics import average_relative_change, paired_bootstrap

    first, second = reference.results.get(reference.method or "", {}), other.results.get(other.method or "", {})
    differences: dict[str, Estimate] = {}
    pairs = {}
    unpaired: dict[str, str] = {}
    for benchmark in dict.fromkeys([*first, *second]):
        a, b = first.get(benchmark), second.get(benchmark)
        if a is None or b is None:
            unpaired[benchmark] = f"not evaluated in {reference.name if a is None else other.name}"
        elif a.ids != b.ids:
            unpaired[benchmark] = "the test images differ"
        elif a.protocol != b.protocol:
            unpaired[benchmark] = "the protocols differ"
        else:
            errors = a.per_image["mpjpe_mm"], b.per_image["mpjpe_mm"]
            absolute = paired_bootstrap(*errors, 0, a.groups)
            differences[benchmark] = Estimate(absolute.value, absolute.low, absolute.high)
            pairs[benchmark] = (*errors, a.groups)
    mean = average_relative_change(pairs, 0)
    relative = Estimate(mean.value, mean.low, mean.high).times(100.0) if mean.count else None
    return Paired(reference.name, other.name, differences, relative, unpaired)


def _seed_groups(runs: Sequence[RunDirectory]) -> list[SeedGroup]:
    by_experiment: dict[str, list[RunDirectory]] = {}
    for run in runs:
        by_experiment.setdefault(json.dumps(what_it_does(run), sort_keys=True, default=str), []).append(run)
    groups = [
        members for members in by_experiment.values() if len({str(run.summary.get("seed")) for run in members}) > 1
    ]
    names = setting_names(groups)
    return [
        _seed_group(members, name, None if members is groups[0] else against(groups[0], members))
        for members, name in zip(groups, names, strict=True)
    ]


def _seed_group(members: Sequence[RunDirectory], setting: str, against_first: Judged | None) -> SeedGroup:
    facts = [_facts(run) for run in members]
    arms = in_order({arm for fact in facts for arm in fact.change})
    return SeedGroup(
        experiment=facts[0].experiment,
        setting=setting,
        runs=[fact.run for fact in facts],
        seeds=[fact.seed for fact in facts],
        change={arm: Spread.of([f.change[arm].value for f in facts if arm in f.change]) for arm in arms},
        method=facts[0].method,
        judged=method_against(members),
        changes=changes(members),
        mpjpe_mm=_spreads([fact.mpjpe_mm for fact in facts]),
        pa_mpjpe_mm=_spreads([fact.pa_mpjpe_mm for fact in facts]),
        wrong_way_round=_spreads([fact.wrong_way_round for fact in facts]),
        against_first=against_first,
    )


def _spreads(runs: Sequence[Mapping[str, Mapping[str, Estimate]]]) -> dict[str, dict[str, Spread]]:
    """benchmark -> arm, over runs."""
    found: dict[str, dict[str, Spread]] = {}
    for benchmark in dict.fromkeys(name for cells in runs for name in cells):
        by_arm = [cells.get(benchmark, {}) for cells in runs]
        arms = in_order({arm for cells in by_arm for arm in cells})
        found[benchmark] = {arm: Spread.of([cells[arm].value for cells in by_arm if arm in cells]) for arm in arms}
    return found


def _config_differences(runs: Sequence[RunDirectory]) -> dict[str, list[str]]:
    flat = [flatten(run.config) for run in runs]
    keys = dict.fromkeys(key for config in flat for key in config)
    table = {key: [str(config.get(key, "–")) for config in flat] for key in keys}
    return {key: values for key, values in table.items() if len(set(values)) > 1}


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
