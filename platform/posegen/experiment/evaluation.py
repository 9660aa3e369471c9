"""The evaluation of one arm: an estimator's errors on the data sets of a suite, a file for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from posegen.benchmarks.measure.result import BenchmarkResult
from posegen.benchmarks.protocol import Benchmark
from posegen.benchmarks.suites import Entry, build_entry
from posegen.config.schema import PosegenConfig
from posegen.progress import Bar
from posegen.scene import Estimator

MAIN_METRIC = "mpjpe_mm"


class Judge:
    """An estimator as each benchmark wants it: with the joints that mean the same in its truth, and its own body.

    Args:
        config: the plain dict of posegen.config.
        weights: of the estimator; None takes those of the configuration.
    """

    def __init__(self, config: PosegenConfig, weights: Path | None = None) -> None:
        self.config, self.weights = config, weights
        self._built: dict[str, tuple[Estimator, nn.Module | None]] = {}

    def for_truth_of(self, truth_of: str) -> tuple[Estimator, nn.Module | None]:
        """The estimator, and the body that its rotations and betas are of, where one is at hand."""
        from posegen.devices import default_device
        from posegen.estimator.configured import build_estimator, evaluation_body

        if truth_of not in self._built:
            checkpoint = str(self.weights) if self.weights else None
            compared: Any = truth_of
            estimator = build_estimator(self.config, default_device(), checkpoint, compared_with=compared)
            self._built[truth_of] = estimator, evaluation_body(estimator, self.config)
        return self._built[truth_of]


def results_of(
    judge: Judge, benchmarks: Iterator[Benchmark], batch: int, weights: str = ""
) -> Iterator[BenchmarkResult]:
    """The errors of one estimator on benchmarks, one after the other."""
    from dataclasses import replace

    from posegen.benchmarks.measure.evaluate import evaluate

    for benchmark in benchmarks:
        estimator, body = judge.for_truth_of(benchmark.truth_of)
        yield replace(evaluate(estimator, benchmark, body, batch), weights=weights)


def evaluate_into(
    folder: Path, config: PosegenConfig, listed: Sequence[Entry], weights: Path | None, bar: Bar,
    built: Callable[[Entry], Benchmark] | None = None,
) -> None:  # fmt: skip
    """Writes <folder>/<label>.parquet for each data set.

    Args:
        weights: of the estimator; None takes those of the configuration.
        built: gives the data sets; None builds them.
    """
    from posegen.estimator.config import checkpoint_digest

    told = checkpoint_digest(weights) if weights else config.estimator.weights()
    benchmarks = (built(entry) if built else build_entry(entry, config) for entry in listed)
    results = results_of(Judge(config, weights), benchmarks, config.evaluation.batch, told)
    for number, result in enumerate(results):
        result.save(folder / f"{result.benchmark}.parquet")
        bar.update(number + 1, len(listed), f"{result.metrics[MAIN_METRIC]:.1f} mm on {result.benchmark}")
