"""How an experiment begins: all that can be seen to be wrong is told, then its run directory is taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from posegen import noise as noises
from posegen.arms.registry import Arm, arm_of, names
from posegen.assets import ensure
from posegen.benchmarks.suites import Suite
from posegen.body.motion.folder import motion_files
from posegen.config import PosegenConfig, run_name, run_path
from posegen.config.places import check_places
from posegen.errors import ConfigError
from posegen.estimator import trainable
from posegen.estimator.configured import build_estimator
from posegen.experiment.experiment import Experiment
from posegen.experiment.kin import kin_of
from posegen.experiment.plans import configured
from posegen.experiment.run_folders import is_run, no_run, runs_in
from posegen.experiment.run_record import refuse_foreign
from posegen.experiment.stages import RunFolder
from posegen.experiment.work import Workers
from posegen.files.atomic import sweep_partials
from posegen.files.lock import check_free, locked
from posegen.progress import Reporter
from posegen.renderer.registry import kind_of
from posegen.scenes.disjoint import prove_disjoint
from posegen.scenes.split import load_split
from posegen.target.given import is_given
from posegen.target.lifted import read_lifted
from posegen.target.run_lift import lift_config


@contextmanager
def opened(
    command: str, config: PosegenConfig, workers: Workers, reporter: Reporter, words: Sequence[str]
) -> Iterator[Experiment]:
    """The run directory for this process alone, once all is right that can be seen now; cleared if the user says so.

    Args:
        command: `run` or one of its stages, for the errors.
        words: what the configuration was composed of.
    """
    path = run_path(config)
    check_free(path, reporter.say)
    if not config.dataset.arms:
        raise ConfigError("an experiment without an arm compares nothing", where="dataset.arms", choices=names())
    arms = [arm_of(arm) for arm in config.dataset.arms]
    Suite.of(config, ["posegen", command, *words])  # a data set that is not there is told now
    check_places(config)
    kin = kin_of(config)
    ensure(progress=lambda line: reporter.say(f"assets: {line}"))
    tunes = _can_be_tuned(command, config)
    _check_parts(config)
    for arm in arms:
        arm.check(config)
        if tunes and command in ("run", "finetune"):
            _check_room(config, arm)
    if command == "evaluate" and tunes and not is_run(path):
        outputs = Path(config.run.outputs)
        raise no_run(f"no run {run_name(config)!r} to evaluate", outputs, runs_in(outputs))
    split = load_split(config.split)
    proofs = prove_disjoint(split)
    refuse_foreign(path)  # before a lock file is put into it
    with locked(path, say=reporter.say):
        if config.run.restart:
            RunFolder(path).clear()
        experiment = Experiment(config, workers, reporter, words, kin)
        experiment.tunes = tunes  # built once is enough
        if command == "evaluate" and tunes:
            for name in experiment.arms:
                experiment.weights_of(name)
        experiment.write_config()
        reporter.say(f"run {run_name(config)} -> {experiment.run.path}")
        reporter.say(f"split {split.name} v{split.version}: {'; '.join(proofs)}")
        sweep_partials(experiment.run.path)
        yield experiment
        sweep_partials(experiment.run.path)  # of writers that were killed meanwhile


def _check_parts(config: PosegenConfig) -> None:
    """Options that a part does not take, and files that it cannot read, as far as they are small."""
    kind_of(config.renderer.name).check(config.renderer)
    noises.of_config(config.noise)
    lift_config(config.target)
    if config.target.lifted:
        read_lifted(config.target.lifted)
    if config.mocap.path and Path(config.mocap.path).is_dir():
        motion_files(Path(config.mocap.path))


def _can_be_tuned(command: str, config: PosegenConfig) -> bool:
    """Whether the estimator has weights to fine-tune. That they fit, and are there where that is asked for, is said now
    and not after the first stages."""
    estimator = build_estimator(config)
    can = trainable(estimator)
    if command == "finetune" and not can:
        raise ConfigError(
            f"estimator {estimator.name!r} has no weights to fine-tune",
            where="estimator",
            next_command=f"posegen run estimator={estimator.name} ... finds what it fails at, without fine-tuning",
        )
    return can


def _check_room(config: PosegenConfig, arm: Arm) -> None:
    """What an arm renders has room in its batches."""
    settings = configured(arm, config, arm.shown_target and is_given(config.target)).finetune
    generated, source, target = settings.parts()
    if arm.propose is not None and generated < 1:
        raise ConfigError(
            f"arm {arm.name!r} renders people, and a batch of {settings.batch} has no room for them beside {source} of "
            f"the source and {target} of the target",
            where="finetune.source_share, finetune.target_share",
            next_command="shares that add up to less, or dataset.arms=[weak_labels], for which nothing is rendered",
        )
