"""`posegen evaluate` in MLflow: a run of its own for each evaluation, beside the runs of experiments.

Its metrics are named as an arm's (`ski-like/mpjpe_mm`), so that a table of runs shows both in the same columns.
"""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from posegen.benchmarks.measure.result import BenchmarkResult
from posegen.config import PosegenConfig, plain
from posegen.files.secrets import masked_text
from posegen.tracking.store.datasets import benchmark as benchmark_record
from posegen.tracking.store.mlflow_store import Tracker, TrackingError
from posegen.tracking.store.shown import experiment_name

log = logging.getLogger(__name__)

KIND = "evaluation"


def track_evaluation(config: PosegenConfig, files: Mapping[str, str], command: Sequence[str], table: str) -> bool:
    """Tells MLflow of an evaluation that has ended. Whether it has all of it: a store that is away is said and no
    error, for the results are on disk.

    Args:
        files: benchmark -> the Parquet file of its result.
        command: the words that made it.
        table: the figures as a person reads them, for the run's page.
    """
    results = {name: BenchmarkResult.load(file) for name, file in files.items()}
    outputs, tracking = Path(config.run.outputs), config.tracking
    try:
        tracker = Tracker(outputs, experiment_name(tracking.experiment), tracking.uri, artifacts=tracking.artifacts)
        key = f"{KIND}/{config.estimator.name}-{time.time_ns()}"
        name = f"{config.estimator.name} on {', '.join(results)}"
        with tracker.run(key, name=name, kind=KIND) as run:
            weights = next((result.weights for result in results.values() if result.weights), "")
            run.tags({"estimator": config.estimator.name, "benchmarks": ",".join(results), "weights": weights})
            run.note(f"`{masked_text(shlex.join(command))}`\n\n```\n{table}\n```")
            run.params({"estimator": plain(config.estimator), "image_size": config.image_size, "seed": config.seed})
            for label, result in results.items():
                run.metrics({f"{label}/{metric}": value for metric, value in result.metrics.items()})
                run.dataset(benchmark_record(result), "evaluation")
                run.artifact(files[label], "results")
    except TrackingError as error:
        log.warning("MLflow was not told of this evaluation: %s", masked_text(str(error)))
        return False
    if tracker.missed:
        log.warning("MLflow was not told all of this evaluation; it lacks %s", ", ".join(tracker.missed))
    return not tracker.missed
