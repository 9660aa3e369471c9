"""One trial of a sweep: a small experiment with one arm, whose figure of merit the search maximises."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from posegen.arms.rows import SOURCE_ARM
from posegen.assets import ensure
from posegen.benchmarks.measure.comparison import average_change
from posegen.config import compose
from posegen.engine.experiment import BEFORE, Experiment
from posegen.engine.sweep_space import MEAN_IMPROVEMENT
from posegen.experiment.stages import RunFolder
from posegen.progress import Bar, Reporter

Report = Callable[[Mapping[str, float]], None]
# Stages that most searches leave alone, and the folder of a run in which each keeps what it made.
SHARED = {"dataset/source": ("dataset", SOURCE_ARM), f"evaluate/{BEFORE}": ("evaluation", BEFORE)}


class SharingExperiment(Experiment):
    """An experiment that takes the source's rows and the evaluation before from the sweep, where they are the same.

    Args:
        config: of the trial.
        shared: the folder in which `prepare` made them; whether they fit the trial is seen by their digests.
    """

    def __init__(self, config: dict[str, Any], shared: Path | None) -> None:
        super().__init__(config, Reporter(io.StringIO()), check_resources=False)
        self.shared = None if shared is None else RunFolder(shared)

    def _stage(self, name: str, title: str, digest: str, total: int | None, work: Callable[[Bar], Any]) -> dict:
        if self.shared is not None and name in SHARED and self.shared.is_done(name, digest):
            ours = self.run.path.joinpath(*SHARED[name])
            if not self.run.is_done(name, digest) and not any(ours.glob("*")):
                _link(ours, self.shared.path.joinpath(*SHARED[name]))
                self.run.run_stage(name, digest, lambda: {"seconds": 0.0})
        return super()._stage(name, title, digest, total, work)


def _link(link: Path, folder: Path) -> None:
    """A relative link in the place of an empty folder, or of a link that leads nowhere."""
    if link.is_symlink():
        link.unlink()
    elif link.is_dir():
        link.rmdir()
    link.symlink_to(os.path.relpath(folder, link.parent), target_is_directory=True)


def prepare(config: dict[str, Any], shared: Path, reporter: Reporter) -> None:
    """Does once what the trials of a sweep have in common: the source's rows, and the errors before fine-tuning.

    Args:
        config: composed from the overrides of every trial.
        shared: the run directory that is to hold them.
        reporter: tells a person what is going on.
    """
    ensure(progress=lambda line: reporter.say(f"assets: {line}"))
    place = {**config["run"], "outputs": str(shared.parent), "name": shared.name}
    experiment = Experiment({**config, "run": place}, reporter)
    experiment.source()
    experiment.evaluate(BEFORE, None)


def run_trial(overrides: Mapping[str, Any], report: Report, shared: Path | None = None) -> dict[str, float]:
    """Runs an experiment with the given overrides inside the cluster that is connected.

    After each round of generating and fine-tuning the benchmarks are evaluated and reported, so that ASHA can stop a
    trial that does badly. The data of a trial are kept in its run directory; a trial that is started again goes on.
    Two trials with the same parameters are one run: the second waits for the first and takes its results.

    Args:
        overrides: `key: value` as on the command line; `dataset.arms` names the one arm (posegen unless given).
        report: called after each round but the last with its metrics.
        shared: what the trials of the sweep have in common, made by `prepare`.

    Returns:
        the metrics of the last round: mean_relative_improvement in % (positive is better), and each benchmark's MPJPE.
    """
    words = [f"{key}={_text(value)}" for key, value in overrides.items()]
    if "dataset.arms" not in overrides:
        words.append("dataset.arms=[posegen]")
    experiment = SharingExperiment(compose(words), shared)
    experiment.write_config()
    arm = experiment.arms[0]
    metrics: dict[str, float] = {}
    with FileLock(experiment.run.path / ".trial.lock"):
        before = experiment.evaluate(BEFORE, None)
        for round_, weights in enumerate(experiment.finetune_rounds(arm)):
            after = experiment.evaluate(arm if round_ == 0 else f"{arm}-round{round_ + 1}", weights)
            change = average_change(before, after, experiment.config["seed"], 200)
            metrics = {MEAN_IMPROVEMENT: -100 * change["value"], "round": float(round_ + 1)}
            metrics |= {f"mpjpe_mm/{name}": result.metrics["mpjpe_mm"] for name, result in after.items()}
            if arm == "posegen" and round_ + 1 < experiment.rounds:
                report(metrics)
    return metrics


def _text(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
