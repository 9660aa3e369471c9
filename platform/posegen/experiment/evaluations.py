"""The stages that measure: every arm's estimator on the suite, and on what is watched beside it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

from posegen.benchmarks.measure.result import BenchmarkResult
from posegen.benchmarks.protocol import Benchmark
from posegen.benchmarks.suites import Entry, Suite
from posegen.config import PosegenConfig, parts_of
from posegen.errors import DataError
from posegen.experiment.evaluation import evaluate_into
from posegen.experiment.kept_sets import KeptSets
from posegen.experiment.plans import weights_digest
from posegen.experiment.stages import RunFolder, RunStage, digest_of
from posegen.progress import Bar

logger = logging.getLogger(__name__)


class Evaluations:
    """Evaluates estimators; one at a time, since each takes this process' cores and its images from one cache.

    Args:
        run_stage: posegen.experiment.experiment.Experiment.stage.
    """

    def __init__(self, config: PosegenConfig, run: RunFolder, run_stage: RunStage) -> None:
        self.config, self.run, self._stage = config, run, run_stage
        self.suite = Suite.of(config)
        self._one = threading.Lock()
        self._sets = KeptSets(config)

    def evaluate(self, arm: str, weights: Path | None) -> dict[str, BenchmarkResult]:
        """Errors of an arm's estimator on every benchmark: benchmark -> BenchmarkResult."""
        return self._evaluated("evaluate", f"evaluating {arm}", self.run.folder("evaluation", arm), weights)

    def watch(self, arm: str, weights: Path | None) -> dict[str, BenchmarkResult]:
        """The same on what is watched beside the benchmarks, such as what the estimator was good at before."""
        if not self.suite.watched:
            return {}
        return self._evaluated("watch", f"what {arm} still knows", self.run.folder("watched", arm), weights)

    def benchmarks(self) -> list[Benchmark]:
        """The benchmarks of the configuration."""
        return [self._sets(entry) for entry in self.suite.measured]

    def _evaluated(self, verb: str, title: str, folder: Path, weights: Path | None) -> dict[str, BenchmarkResult]:
        entries = {"evaluate": self.suite.measured, "watch": self.suite.watched}[verb]
        stage = f"{verb}/{folder.name}"
        settings = self.config.evaluation
        digest = digest_of(
            [[entry.as_plain() for entry in entries], settings.images, settings.seed],
            parts_of(self.config, "estimator", "body", "split", "image_size"),
            weights_digest(weights),
        )

        def work(bar: Bar) -> dict[str, Any]:
            evaluate_into(folder, self.config, entries, weights, bar, self._sets)
            return {}

        with self._one:
            self._stage(stage, title, digest, len(entries), work)
            try:
                return _load(folder, entries)
            except DataError as error:
                logger.warning("%s (%s); it is measured again", error.what, error.where)
            self.run.forget(stage)
            self._stage(stage, title, digest, len(entries), work)
            return _load(folder, entries)


def _load(folder: Path, entries: tuple[Entry, ...]) -> dict[str, BenchmarkResult]:
    return {entry.label: BenchmarkResult.load(folder / f"{entry.label}.parquet") for entry in entries}
