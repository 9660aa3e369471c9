"""What an experiment found: the results of every arm, what they still know, and the target's account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posegen.arms.registry import BEFORE, method_of
from posegen.benchmarks.measure.result import BenchmarkResult
from posegen.experiment.experiment import Experiment
from posegen.experiment.summary import write_summary
from posegen.experiment.target_account import target_account


@dataclass(frozen=True)
class Measured:
    """Results by arm and data set.

    Attributes:
        method: the arm that the experiment is about; `before` where nothing was tuned.
    """

    experiment: Experiment
    method: str
    results: Mapping[str, Mapping[str, BenchmarkResult]]
    watched: Mapping[str, Mapping[str, BenchmarkResult]]
    target: dict[str, Any] | None

    @classmethod
    def of(cls, experiment: Experiment, weights: Mapping[str, Path | None]) -> Measured:
        """Measures what was not measured before.

        Args:
            weights: of each arm's estimator, `before` among them.
        """
        evaluations = experiment.evaluations
        results = {arm: evaluations.evaluate(arm, file) for arm, file in weights.items()}
        watched = {arm: evaluations.watch(arm, file) for arm, file in weights.items()}
        method = method_of(list(weights)) or BEFORE
        target = target_account(experiment.target, experiment.config, weights, method)
        return cls(experiment, method, results, watched, target)

    def write_summary(self) -> dict[str, Any]:
        """summary.json of the run."""
        return write_summary(self.experiment.run, self.experiment.config, self.results, self.watched, self.target)
