"""`posegen run | generate | finetune | evaluate`: an experiment, or some of its stages."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from posegen.arms.registry import BEFORE, arm_of
from posegen.config import PosegenConfig, compose, plain
from posegen.engine.nodes import check_nodes
from posegen.engine.resources import free_resources
from posegen.engine.side_by_side import AUTO, Bundles, SideBySide, at_once, run_side_by_side, what_of
from posegen.engine.workers import RayWorkers
from posegen.experiment.experiment import Experiment
from posegen.experiment.opening import opened
from posegen.machine import AMPLE_BYTES, cores, memory_bytes
from posegen.progress import Reporter, duration
from posegen.tracking.store.shown import experiment_name, ui_command


def main(command: str, argv: list[str]) -> int:
    """Runs a command; returns the exit status. Raises PosegenError."""
    config = compose(argv)
    reporter = Reporter()
    workers = RayWorkers(config)
    with (
        opened(command, config, workers, reporter, argv) as experiment,
        _published(experiment, config) as publisher,
        _connected(experiment) as started_here,
    ):
        arms = Arms(experiment, workers, started_here)
        if command == "run":
            _run(arms, publisher)
        elif command == "generate":
            arms.each(experiment.dataset)
            _next(reporter, experiment, "finetune", "dataset")
        elif command == "finetune":
            arms.each(experiment.finetune)
            _next(reporter, experiment, "evaluate", "finetune")
        else:
            tuned = [BEFORE, *(experiment.arms if experiment.tunes else ())]
            _report(experiment, publisher, {arm: experiment.weights_of(arm) for arm in tuned})
    return 0


@contextmanager
def _connected(experiment: Experiment) -> Iterator[bool]:
    """The cluster, whose machines all see the run directory and have the assets; whether it was started here."""
    from posegen.engine.cluster import connect, disconnect

    engine, reporter = experiment.config.engine, experiment.reporter
    cluster = connect(
        engine.address,
        cpus=engine.cpus,
        object_store_mb=engine.object_store_mb,
        verbose=engine.verbose,
    )
    reporter.say(str(cluster))
    try:
        if not cluster.started_here:
            check_nodes(experiment.run.path, reporter.say)
        yield cluster.started_here
    finally:
        if cluster.started_here:
            disconnect()


@contextmanager
def _published(experiment: Experiment, config: PosegenConfig) -> Iterator[Any]:
    """MLflow follows the stages; it is closed as failed or killed when they are."""
    from posegen.tracking.store.publish import Publisher, open_tracker

    settings = config.tracking
    outputs, name = Path(config.run.outputs).expanduser(), experiment_name(settings.experiment)
    tracker = open_tracker(experiment.run.path, outputs, name, settings.uri, settings.artifacts)
    publisher = Publisher(tracker, experiment.run.path, name=experiment.run.name)
    publisher.start(plain(config))
    experiment.on_stage = publisher.stage
    try:
        with publisher.following(settings.every_s):
            yield publisher
    except KeyboardInterrupt:
        publisher.kill()
        raise
    except Exception as error:
        publisher.fail(str(error))
        raise


def _run(arms: Arms, publisher: Any) -> None:
    experiment = arms.experiment
    evaluations = experiment.evaluations

    def finetune(arm: str) -> Path:
        weights = experiment.finetune(arm)
        publisher.arm(arm, close=True)
        return weights

    def finetune_and_evaluate(arm: str) -> Path:
        weights = experiment.finetune(arm)
        evaluations.evaluate(arm, weights)
        evaluations.watch(arm, weights)
        with experiment.telling:
            publisher.arm(arm, close=True)
        return weights

    def search(arm: str) -> None:
        experiment.dataset(arm)
        with experiment.telling:
            publisher.arm(arm, close=True)

    if not experiment.tunes:
        name = experiment.config.estimator.name
        experiment.reporter.say(f"estimator {name} has no weights to fine-tune: every arm ends with its data set")
        arms.each(search)
        _report(experiment, publisher, {BEFORE: None})
        return
    weights = arms.each(finetune, finetune_and_evaluate)
    _report(experiment, publisher, {BEFORE: None, **weights})


@dataclass(frozen=True)
class Arms:
    """The arms of an experiment at work on a cluster.

    Args:
        started_here: whether the cluster is this process' own Ray on this machine.
    """

    experiment: Experiment
    workers: RayWorkers
    started_here: bool = False

    def each(self, work: Callable[[str], Any], side_by_side: Callable[[str], Any] | None = None) -> dict[str, Any]:
        """Does something for each arm, several at once where the cluster has room for them.

        Args:
            side_by_side: what is done instead of `work` where several arms are at work.

        Returns:
            the results, arm by arm in the experiment's order.
        """
        experiment = self.experiment
        experiment.show_target()
        count, choice = at_once(experiment.config.engine.parallel_arms, self.asks(), self.room())
        if len(experiment.arms) > 1:
            experiment.reporter.say(choice)
        if count == 1:
            return {arm: work(arm) for arm in experiment.arms}
        experiment.source()  # all arms need it
        self.workers.together = SideBySide()

        def tell(arm: str, error: BaseException) -> None:
            experiment.reporter.say(f"arm {arm} failed: {what_of(error)}; the other arms go on")

        # the method takes longest, the plainest arms are left to fill the gaps
        longest_first = sorted(experiment.arms, key=lambda arm: -arm_of(arm).place)
        pieces = {arm: partial(side_by_side or work, arm) for arm in longest_first}
        try:
            done = run_side_by_side(pieces, count, self.workers.together, tell)
            return {arm: done[arm] for arm in experiment.arms}
        finally:
            self.workers.together = None

    def asks(self) -> dict[str, Bundles]:
        """What each arm takes of the cluster when it takes most."""
        ask, overlaps = self.workers.asks, self.experiment.overlaps
        return {arm: ask(arm_of(arm).trains_generator, overlaps(arm)) for arm in self.experiment.arms}

    def room(self) -> list[dict[str, float]]:
        """What is free on each node. A Ray started here has more logical CPUs than a small machine has cores.

        Of these `auto` counts two for each core, where there is memory: an arm's renderers and its trainers seldom
        work at the same time, and neither takes a second core, so that two arms fill two cores and one does not.
        """
        nodes, engine = free_resources(), self.experiment.config.engine
        if not self.started_here or engine.parallel_arms != AUTO:
            return nodes
        most = engine.cpus or cores() * (2 if memory_bytes() >= AMPLE_BYTES else 1)
        return [{**node, "CPU": min(node.get("CPU", 0.0), float(most))} for node in nodes]


def _report(experiment: Experiment, publisher: Any, weights: dict[str, Path | None]) -> None:
    """Evaluates, writes summary, gallery and report, fills MLflow, prints the table."""
    from posegen.experiment.evaluation import Judge
    from posegen.experiment.gallery import make_gallery
    from posegen.experiment.latest import make_latest
    from posegen.experiment.measured import Measured
    from posegen.tracking.report.report import build_report
    from posegen.tracking.report.tables import table_text
    from posegen.tracking.store.publish import finish_patiently

    reporter, config, run = experiment.reporter, experiment.config, experiment.run
    found = Measured.of(experiment, weights)
    with reporter.stage("report"):
        summary = found.write_summary()
        make_gallery(
            Judge(config),
            Judge(config, weights[found.method]),
            experiment.evaluations.benchmarks(),
            found.results[BEFORE],
            found.results[found.method],
            run.path / "evaluation" / "gallery.npz",
        )
        report = build_report(run.path)
        complete = finish_patiently(publisher, report, reporter.say)
        make_latest(run.path, Path(config.run.outputs))
    reporter.say(f"\n{table_text(summary)}\n")
    reporter.say(f"all stages took {duration(summary['wall_s'])}")
    reporter.say(f"report   {report}")
    reporter.say(f"numbers  {run.path / 'summary.json'}")
    if not complete:
        reporter.say(f"MLflow was not told everything; what it lacks waits in {run.path}. When it answers again:")
        reporter.say(f"  posegen track sync {run.path}")
    reporter.say("next:")
    show = ui_command(config.run.outputs, config.tracking.experiment, config.tracking.uri)
    reporter.say(f"  {show:<30} # browse curves, galleries and tables in MLflow")
    words = [f"run={run.name}"] + ([f"run.outputs={config.run.outputs}"] if config.run.outputs != "outputs" else [])
    look = shlex.join(["posegen", "atlas", *words])
    reporter.say(f"  {look:<30} # where it fails, how often, before and after")
    reporter.say(f"  {experiment.another():<30} # another seed, then: posegen compare")
    reporter.say("  posegen run experiment=full    # the real thing")


def _next(reporter: Reporter, experiment: Experiment, command: str, folder: str) -> None:
    reporter.say(f"results  {experiment.run.path / folder}")
    reporter.say(f"next:    {experiment.command(command)}")
