"""One trial of a sweep: a small experiment with one arm, whose figure of merit the search maximises."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from posegen.arms.registry import BEFORE
from posegen.assets import ensure
from posegen.benchmarks.measure.comparison import average_change
from posegen.config import PosegenConfig, compose, run_path
from posegen.engine.sweep_space import MEAN_IMPROVEMENT, mpjpe_of
from posegen.engine.workers import RayWorkers
from posegen.experiment.experiment import Experiment
from posegen.experiment.kin import Kin, kin_of
from posegen.experiment.work import Workers
from posegen.files.lock import locked
from posegen.progress import Reporter

Report = Callable[[Mapping[str, float]], None]


def prepare(config: PosegenConfig, shared: Path, reporter: Reporter) -> None:
    """Does once what the trials of a sweep have in common: the source's rows, and the errors before fine-tuning.

    Args:
        config: composed from the overrides of every trial.
        shared: the run directory that is to hold them.
        reporter: tells a person what is going on.
    """
    ensure(progress=lambda line: reporter.say(f"assets: {line}"))
    placed = replace(config, run=replace(config.run, outputs=str(shared.parent), name=shared.name))
    with locked(shared, say=reporter.say, next_command="wait for it, or give this sweep another name: sweep.name=..."):
        experiment = Experiment(placed, RayWorkers(placed), reporter)
        experiment.source()
        experiment.evaluations.evaluate(BEFORE, None)


def run_trial(
    overrides: Mapping[str, Any], report: Report, shared: Path | None = None, workers: Workers | None = None
) -> dict[str, float]:
    """Runs an experiment with the given overrides.

    After each round of generating and fine-tuning the benchmarks are evaluated and reported, so that ASHA can stop a
    trial that does badly. The data of a trial are kept in its run directory; a trial that is started again goes on.
    Two trials with the same parameters are one run: the second waits for the first and takes its results.

    Args:
        overrides: `key: value` as on the command line; `dataset.arms` names the one arm (posegen unless given).
        report: called after each round but the last with its metrics.
        shared: what the trials of the sweep have in common, made by `prepare`.
        workers: who does the work; None takes the cluster that is connected.

    Returns:
        the metrics of the last round: mean_relative_improvement in % (positive is better), and each benchmark's MPJPE.
    """
    words = [f"{key}={_text(value)}" for key, value in overrides.items()]
    if "dataset.arms" not in overrides:
        words.append("dataset.arms=[posegen]")
    config = compose(words)
    metrics: dict[str, float] = {}
    workers = workers or RayWorkers(config, check_resources=False)  # trials queue for room in the cluster
    kin = [*kin_of(config), *([] if shared is None else [Kin(shared)])]
    with locked(run_path(config), wait=True):
        experiment = Experiment(config, workers, Reporter(io.StringIO()), words, kin)
        experiment.write_config()
        arm = experiment.arms[0]
        before = experiment.evaluations.evaluate(BEFORE, None)
        for round_, weights in enumerate(experiment.finetune_rounds(arm)):
            after = experiment.evaluations.evaluate(arm if round_ == 0 else f"{arm}-round{round_ + 1}", weights)
            change = average_change(before, after, experiment.config.seed, 200)
            metrics = {MEAN_IMPROVEMENT: -100 * change["value"], "round": float(round_ + 1)}
            metrics |= {mpjpe_of(name): result.metrics["mpjpe_mm"] for name, result in after.items()}
            if round_ + 1 < experiment.rounds(arm):
                report(metrics)
    return metrics


def _text(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
