"""One trial of a sweep: a small experiment with one arm, whose figure of merit the search maximises."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from posegen.arms.registry import BEFORE
from posegen.arms.rows import SOURCE_ARM
from posegen.assets import ensure
from posegen.benchmarks.measure.comparison import average_change
from posegen.config import PosegenConfig, compose, run_path
from posegen.engine.sweep_space import MEAN_IMPROVEMENT
from posegen.engine.workers import RayWorkers
from posegen.experiment.experiment import Experiment
from posegen.experiment.stages import RunFolder
from posegen.experiment.work import Workers
from posegen.files.lock import locked
from posegen.progress import Bar, Reporter

Report = Callable[[Mapping[str, float]], None]
# Stages that most searches leave alone, and the folder of a run in which each keeps what it made.
SHARED = {"dataset/source": ("dataset", SOURCE_ARM), f"evaluate/{BEFORE}": ("evaluation", BEFORE)}


class SharingExperiment(Experiment):
    """An experiment that takes the source's rows and the evaluation before from the sweep, where they are the same.

    Args:
        config: of the trial.
        shared: the folder in which `prepare` made them; whether they fit the trial is seen by their digests.
        workers: who does the work; None takes the cluster that is connected, in which trials queue for room.
    """

    def __init__(
        self, config: PosegenConfig, shared: Path | None, overrides: Sequence[str] = (), workers: Workers | None = None
    ) -> None:
        workers = workers or RayWorkers(config, check_resources=False)
        super().__init__(config, workers, Reporter(io.StringIO()), overrides)
        self.shared = None if shared is None else RunFolder(shared)

    def stage(
        self, name: str, title: str, digest: str, total: int | None, work: Callable[[Bar], Mapping[str, Any]]
    ) -> dict[str, Any]:
        if self.shared is not None and name in SHARED and self.shared.is_done(name, digest):
            ours = self.run.path.joinpath(*SHARED[name])
            if not self.run.is_done(name, digest) and not any(ours.glob("*")):
                _share(self.shared.path.joinpath(*SHARED[name]), ours)
                self.run.run_stage(name, digest, lambda: {"seconds": 0.0})
        return super().stage(name, title, digest, total, work)


def _share(folder: Path, ours: Path) -> None:
    """A relative link to a folder in the place of an empty one, or of a link that leads nowhere; a copy of the folder
    where the file system has no links."""
    if ours.is_symlink():
        ours.unlink()
    elif ours.is_dir():
        ours.rmdir()
    try:
        ours.symlink_to(os.path.relpath(folder, ours.parent), target_is_directory=True)
    except OSError:
        shutil.copytree(folder, ours, dirs_exist_ok=True)


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
    with locked(run_path(config), wait=True):
        experiment = SharingExperiment(config, shared, words, workers)
        experiment.write_config()
        arm = experiment.arms[0]
        before = experiment.evaluations.evaluate(BEFORE, None)
        for round_, weights in enumerate(experiment.finetune_rounds(arm)):
            after = experiment.evaluations.evaluate(arm if round_ == 0 else f"{arm}-round{round_ + 1}", weights)
            change = average_change(before, after, experiment.config.seed, 200)
            metrics = {MEAN_IMPROVEMENT: -100 * change["value"], "round": float(round_ + 1)}
            metrics |= {f"mpjpe_mm/{name}": result.metrics["mpjpe_mm"] for name, result in after.items()}
            if round_ + 1 < experiment.rounds(arm):
                report(metrics)
    return metrics


def _text(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
