"""Arms side by side: means with intervals, differences to `before` paired over images, and their average."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from posegen.benchmarks.measure.result import METRICS, BenchmarkResult
from posegen.benchmarks.measure.statistics import Interval, bootstrap_mean, paired_bootstrap
from posegen.seeds import derive, numpy_generator

BEFORE = "before"
Results = Mapping[str, Mapping[str, BenchmarkResult]]  # arm -> benchmark -> result


def _numbers(interval: Interval) -> dict[str, float]:
    return {key: round(float(value), 4) for key, value in asdict(interval).items() if key in ("value", "low", "high")}


def compare_arms(results: Results, seed: int, resamples: int = 2000) -> dict[str, Any]:
    """The sections "benchmarks" and "average" of summary.json.

    Intervals are 95 % bootstrap intervals over groups of images (half seconds of one clip); differences are paired over
    the same images. "average" is the mean over the benchmarks of the relative change in MPJPE, negative is better.

    Args:
        results: of every arm, "before" among them, each on the same benchmarks.
    """
    before = results[BEFORE]
    benchmarks: dict[str, Any] = {}
    for name, reference in before.items():
        arms: dict[str, Any] = {}
        difference: dict[str, Any] = {}
        for arm, by_name in results.items():
            result = by_name[name]
            shown = [metric for metric in METRICS if metric in result.per_image and metric in reference.per_image]
            arms[arm] = {
                metric: _numbers(
                    bootstrap_mean(
                        result.per_image[metric], derive(seed, name, metric), result.groups, resamples=resamples
                    )
                )
                for metric in shown
            }
            if arm != BEFORE:
                difference[arm] = {
                    metric: _numbers(
                        paired_bootstrap(
                            reference.per_image[metric],
                            result.per_image[metric],
                            derive(seed, name, metric),
                            result.groups,
                            resamples=resamples,
                        )
                    )
                    for metric in shown
                }
        benchmarks[name] = {
            "protocol": reference.protocol,
            "images": reference.counted["used"],
            "arms": arms,
            "difference": difference,
        }
    average = {
        arm: {"relative_mpjpe": average_change(before, by_name, seed, resamples)}
        for arm, by_name in results.items()
        if arm != BEFORE
    }
    return {"benchmarks": benchmarks, "average": average}


def average_change(
    before: Mapping[str, BenchmarkResult],
    after: Mapping[str, BenchmarkResult],
    seed: int,
    resamples: int = 2000,
    metric: str = "mpjpe_mm",
) -> dict[str, float]:
    """Mean over benchmarks of after / before - 1, with an interval: each benchmark is resampled by itself."""
    draws = np.zeros(resamples)
    value = 0.0
    for name, reference in before.items():
        first, second = reference.per_image[metric], after[name].per_image[metric]
        keep = np.isfinite(first) & np.isfinite(second)
        names, inverse = np.unique(np.asarray(reference.groups)[keep], return_inverse=True)
        weights = numpy_generator(seed, "average", name).multinomial(
            len(names), np.full(len(names), 1 / len(names)), size=resamples
        )
        sums = [weights @ np.bincount(inverse, column[keep], len(names)) for column in (first, second)]
        draws += (sums[1] / sums[0] - 1) / len(before)
        value += (second[keep].mean() / first[keep].mean() - 1) / len(before)
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": round(float(value), 6), "low": round(float(low), 6), "high": round(float(high), 6)}
