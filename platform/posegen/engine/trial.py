"""One trial of a sweep: a small experiment with one arm, whose figure of merit the search maximises."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

from posegen.benchmarks.comparison import average_change
from posegen.config import compose
from posegen.engine.experiment import BEFORE, Experiment
from posegen.engine.sweep_space import MEAN_IMPROVEMENT
from posegen.progress import Reporter

Report = Callable[[Mapping[str, float]], None]


def run_trial(overrides: Mapping[str, Any], report: Report) -> dict[str, float]:
    """Runs an experiment with the given overrides inside the cluster that is connected.

    After each round of generating and fine-tuning the four benchmarks are evaluated and reported, so that ASHA can stop
    a trial that does badly. The data of a trial are kept in its run directory; a trial that is started again goes on.

    Args:
        overrides: `key: value` as on the command line; `dataset.arms` names the one arm (posegen unless given).
        report: called after each round with the metrics.

    Returns:
        the metrics of the last round: mean_relative_improvement in % (positive is better), and each benchmark's MPJPE.
    """
    words = [f"{key}={_text(value)}" for key, value in overrides.items()]
    if "dataset.arms" not in overrides:
        words.append("dataset.arms=[posegen]")
    experiment = Experiment(compose(words), Reporter(io.StringIO()), check_resources=False)
    arm = experiment.arms[0]
    before = experiment.evaluate(BEFORE, None)
    metrics: dict[str, float] = {}
    for round_, weights in enumerate(experiment.finetune_rounds(arm)):
        after = experiment.evaluate(arm if round_ == 0 else f"{arm}-round{round_ + 1}", weights)
        change = average_change(before, after, experiment.config["seed"], 200)
        metrics = {MEAN_IMPROVEMENT: -100 * change["value"], "round": float(round_ + 1)}
        metrics |= {f"mpjpe_mm/{name}": result.metrics["mpjpe_mm"] for name, result in after.items()}
        report(metrics)
    return metrics


def _text(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
