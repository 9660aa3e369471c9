"""Error by viewpoint, clip and joint, before and after, from the per-image results of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from posegen.benchmarks.measure.comparison import clip_of
from posegen.tracking.report import plots
from posegen.tracking.report.page import PagePlot, page_plot
from posegen.tracking.report.run_directory import Missing, RunDirectory
from posegen.tracking.report.style import arm_look

if TYPE_CHECKING:
    from posegen.benchmarks.measure.result import BenchmarkResult

MOST_GROUPS = 24

Pairs = dict[str, tuple["BenchmarkResult", "BenchmarkResult"]]


def breakdown(run: RunDirectory) -> list[PagePlot | Missing]:
    """The figures, or what is missing for each."""
    method = run.method
    pairs = run.paired("before", method) if method else {}
    if not pairs or method is None:
        why = "evaluation/before and evaluation/<method> hold no results of the same images"
        return [Missing("The breakdown of errors", why)]
    label = arm_look(method).label
    return [_viewpoint(pairs, label), *_groups(pairs, label), *_joints(pairs, label)]


def _viewpoint(pairs: Pairs, label: str) -> PagePlot | Missing:
    columns = [(b.azimuth, b.elevation, b.per_image["mpjpe_mm"], a.per_image["mpjpe_mm"]) for b, a in pairs.values()]
    azimuth, elevation, before, after = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    known = np.isfinite(azimuth) & np.isfinite(elevation) & np.isfinite(before) & np.isfinite(after)
    if not known.any():
        return Missing("The error by viewpoint", "the test images say nothing of where their cameras stood")
    figure = plots.error_by_viewpoint(azimuth[known], elevation[known], before[known], after[known])
    images = f"{int(known.sum())} test images of {len(pairs)} benchmarks pooled"
    caption = f"Mean MPJPE by where the camera stood about the person, before and after {label}; {images}."
    return page_plot(figure, "viewpoint", caption)


def _groups(pairs: Pairs, label: str) -> list[PagePlot]:
    names, first, second, counts = [], [], [], []
    for benchmark, (before, after) in pairs.items():
        groups = np.asarray([clip_of(group) for group in before.groups])
        for group in np.unique(groups):
            chosen = groups == group
            names.append(f"{benchmark}: {group}")
            first.append(_mean(before.per_image["mpjpe_mm"][chosen]))
            second.append(_mean(after.per_image["mpjpe_mm"][chosen]))
            counts.append(int(chosen.sum()))
    hardest = [int(i) for i in np.argsort(-np.nan_to_num(first), kind="stable")[:MOST_GROUPS]]
    figure = plots.dumbbells(
        [names[i] for i in hardest],
        [first[i] for i in hardest],
        [second[i] for i in hardest],
        [counts[i] for i in hardest],
    )
    left_out = f" The {MOST_GROUPS} hardest of {len(names)}." if len(names) > MOST_GROUPS else ""
    return [page_plot(figure, "clips", f"Mean MPJPE by clip (number of images), before and after {label}.{left_out}")]


def _joints(pairs: Pairs, label: str) -> list[PagePlot | Missing]:
    sums: dict[str, list[tuple[float, float]]] = {}
    for before, after in pairs.values():
        if not before.joint_names or before.joint_names != after.joint_names:
            continue
        for index, joint in enumerate(before.joint_names):
            both = (_mean(before.joint_errors_mm[:, index]), _mean(after.joint_errors_mm[:, index]))
            if np.isfinite(both).all():
                sums.setdefault(joint, []).append(both)
    # The root is 0 by definition and says nothing.
    means = {joint: np.mean(values, 0) for joint, values in sums.items() if np.max(values) > 1e-6}
    if not means:
        return [Missing("The error by joint", "the results hold no errors of single joints")]
    figure = plots.dumbbells(list(means), [m[0] for m in means.values()], [m[1] for m in means.values()])
    return [page_plot(figure, "joints", f"Mean error by joint, benchmarks weighted alike, before and after {label}.")]


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
