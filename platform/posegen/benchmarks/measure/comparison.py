"""Arms side by side: means and tails with intervals, differences to `before` paired over images, and their average."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from posegen.benchmarks.measure.result import METRICS, TAILS, BenchmarkResult
from posegen.benchmarks.measure.statistics import (
    Interval,
    average_relative_change,
    bootstrap_mean,
    bootstrap_tail,
    paired_bootstrap,
)
from posegen.seeds import derive

BEFORE = "before"
Results = Mapping[str, Mapping[str, BenchmarkResult]]  # arm -> benchmark -> result


def _numbers(interval: Interval) -> dict[str, float]:
    return {key: round(float(value), 4) for key, value in asdict(interval).items() if key in ("value", "low", "high")}


def compare_arms(results: Results, seed: int, resamples: int = 2000) -> dict[str, Any]:
    """The sections "benchmarks" and "average" of summary.json.

    Intervals are 95 % bootstrap intervals over groups of images (sequences; half seconds of one clip); differences are
    paired over the same images. "average" is the mean over the benchmarks of the relative change in MPJPE, negative is
    better. "clips" has the mean MPJPE of each clip by arm, the worst before first.

    Args:
        results: of every arm, "before" among them, each on the same benchmarks.
    """
    before = results[BEFORE]
    benchmarks = {
        name: {
            "protocol": reference.protocol,
            "images": reference.counted["used"],
            "arms": {arm: _cells(by_name[name], reference, seed, resamples) for arm, by_name in results.items()},
            "difference": {
                arm: _differences(by_name[name], reference, seed, resamples)
                for arm, by_name in results.items()
                if arm != BEFORE
            },
            "clips": clip_means({arm: by_name[name] for arm, by_name in results.items()}),
        }
        for name, reference in before.items()
    }
    average = {
        arm: {"relative_mpjpe": average_change(before, by_name, seed, resamples)}
        for arm, by_name in results.items()
        if arm != BEFORE
    }
    return {"benchmarks": benchmarks, "average": average}


def _shown(result: BenchmarkResult, reference: BenchmarkResult) -> list[str]:
    return [metric for metric in METRICS if metric in result.per_image and metric in reference.per_image]


def _cells(result: BenchmarkResult, reference: BenchmarkResult, seed: int, resamples: int) -> dict[str, Any]:
    """An arm's means and tails on one benchmark."""
    cells = {
        metric: bootstrap_mean(
            result.per_image[metric], derive(seed, result.benchmark, metric), result.groups, resamples=resamples
        )
        for metric in _shown(result, reference)
    }
    for name, share in TAILS.items():
        own = derive(seed, result.benchmark, name)
        cells[name] = bootstrap_tail(
            result.per_image["mpjpe_mm"], share, own, result.groups, resamples=min(resamples, TAIL_RESAMPLES)
        )
    return {name: _numbers(interval) for name, interval in cells.items()}


TAIL_RESAMPLES = 1000  # a tail costs a pass over all images for each


def _differences(result: BenchmarkResult, reference: BenchmarkResult, seed: int, resamples: int) -> dict[str, Any]:
    """An arm against `before` on one benchmark, paired over the same images."""
    cells = {
        metric: paired_bootstrap(
            reference.per_image[metric],
            result.per_image[metric],
            derive(seed, result.benchmark, metric),
            result.groups,
            resamples=resamples,
        )
        for metric in _shown(result, reference)
    }
    errors = result.per_image["mpjpe_mm"], reference.per_image["mpjpe_mm"]
    for name, share in TAILS.items():
        own = derive(seed, result.benchmark, name)
        cells[name] = bootstrap_tail(
            errors[0], share, own, result.groups, minus=errors[1], resamples=min(resamples, TAIL_RESAMPLES)
        )
    return {name: _numbers(interval) for name, interval in cells.items()}


def clip_of(group: str) -> str:
    """The clip of a group of neighbouring images: `kick/3` is the third piece of `kick`."""
    clip, _, piece = group.rpartition("/")
    return clip if clip and piece.isdigit() else group


def clip_means(arms: Mapping[str, BenchmarkResult]) -> dict[str, dict[str, float]]:
    """clip -> mean MPJPE (mm) by arm and the number of images, the worst of `before` first."""
    table: dict[str, dict[str, float]] = {}
    for arm, result in arms.items():
        clips = np.asarray([clip_of(group) for group in result.groups])
        errors = result.per_image["mpjpe_mm"]
        for clip in np.unique(clips):
            chosen = errors[(clips == clip) & np.isfinite(errors)]
            row = table.setdefault(str(clip), {})
            if len(chosen):
                row[arm] = round(float(chosen.mean()), 4)
            row["images"] = max(row.get("images", 0), len(chosen))
    return dict(sorted(table.items(), key=lambda item: -item[1].get(BEFORE, 0.0)))


def average_change(
    before: Mapping[str, BenchmarkResult],
    after: Mapping[str, BenchmarkResult],
    seed: int,
    resamples: int = 2000,
    metric: str = "mpjpe_mm",
) -> dict[str, float]:
    """Mean over benchmarks of after / before - 1, with an interval: each benchmark is resampled by itself."""
    interval = average_relative_change(
        {
            name: (reference.per_image[metric], after[name].per_image[metric], reference.groups)
            for name, reference in before.items()
        },
        seed,
        resamples=resamples,
    )
    return {key: round(float(getattr(interval, key)), 6) for key in ("value", "low", "high")}
