"""`posegen sweep sweep=<name> key=value ...`: from the command line to a finished sweep."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from posegen.config.schema import PosegenConfig
from posegen.engine.sweep_space import MEAN_IMPROVEMENT, SweepConfig, grid_values, load, mpjpe_of
from posegen.errors import ConfigError
from posegen.files.lock import locked
from posegen.files.results import free, write_result
from posegen.files.secrets import masked_words
from posegen.progress import Reporter
from posegen.tracking.store.shown import experiment_name


def split(words: Sequence[str]) -> tuple[str, dict[str, Any], list[str]]:
    """The sweep's name, the changes to its own settings (sweep.key=value), and the overrides for every trial."""
    from omegaconf import OmegaConf

    name, changes, overrides = "small", {}, []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(
                f"{word!r} is no override: write key=value",
                next_command="posegen sweep sweep=small experiment=smoke",
            )
        if key == "sweep":
            name = value
        elif key.startswith("sweep."):
            changes[key.removeprefix("sweep.")] = OmegaConf.create(f"value: {value}").value
        else:
            overrides.append(word)
    return name, changes, overrides


def _texts(parameters: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value) if isinstance(value, bool) else value}" for key, value in parameters.items()]


def check_space(config: SweepConfig, overrides: Sequence[str]) -> PosegenConfig:
    """The composed configuration, after trying every value of a choice and the bounds of every range.

    A misspelt key is an error here, before the cluster is asked for anything.
    """
    from posegen.config import compose

    for key in {*_pairs(overrides), *config.space} & {"run.name", "run.restart"}:
        raise ConfigError(
            f"{key} cannot be set in a sweep: each trial has a run directory of its own, named by what it computes",
            where=config.name,
            next_command="posegen sweep ... sweep.name=NAME run.outputs=FOLDER",
        )
    for key, given in config.space.items():
        for value in grid_values(given, 2):
            compose([*overrides, *_texts({key: value})])
    return compose(overrides)


def check_metric(config: SweepConfig, composed: PosegenConfig) -> None:
    """The metric is one that a trial of this configuration reports. Raises ConfigError with those there are."""
    from posegen.benchmarks.suites import Suite

    labels = [entry.label for entry in Suite.of(composed, ["posegen", "sweep"]).measured]
    known = [MEAN_IMPROVEMENT, *map(mpjpe_of, labels)]
    if config.metric not in known:
        raise ConfigError(
            f"no trial reports {config.metric!r}", where="sweep.metric", choices=known,
            next_command=f"posegen sweep sweep.metric={known[-1]} sweep.mode=min",
        )  # fmt: skip


def _pairs(overrides: Sequence[str]) -> dict[str, str]:
    """Of a key that is given twice the last one counts, as on the command line."""
    return {key: value for key, _, value in (word.partition("=") for word in overrides)}


def _stdout(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str]) -> int:
    """Runs or resumes a sweep; prints its table, where everything is and what to type next."""
    parser = argparse.ArgumentParser(
        prog="posegen sweep", description="Search over noise, losses and bands: conf/sweep/*.yaml holds the spaces."
    )
    parser.add_argument("overrides", nargs="*", help="sweep=NAME, sweep.trials=8, and key=value for every trial")
    parser.add_argument("--new", action="store_true", help="refuse to go on with a sweep of this name")
    parser.add_argument("--json", type=Path, help="write the trials and the best one to this file")
    parser.add_argument("--overwrite", action="store_true", help="write over that file where it is there")
    given = parser.parse_intermixed_args(list(argv))
    if given.json:
        given.json = free(given.json, given.overwrite)

    from posegen.config import conf_dir

    name, changes, words = split(given.overrides)
    config = load(name, conf_dir(), changes)
    overrides = [*config.overrides, *words]
    composed = check_space(config, overrides)
    check_metric(config, composed)
    config.overrides = overrides

    from posegen.engine.cluster import connect

    engine, tracking = composed.engine, composed.tracking
    outputs = Path(composed.run.outputs).resolve()
    cluster = connect(engine.address, cpus=engine.cpus, object_store_mb=engine.object_store_mb)
    _stdout(str(cluster))

    from posegen.engine.nodes import check_nodes
    from posegen.engine.trial import prepare, run_trial
    from posegen.engine.tune import Report, sweep  # imports Ray, which reads its settings then: connect sets them

    fixed = _pairs(overrides)
    # Trials log nothing themselves, and what they are given is kept on disk: a store's password is not for them.
    computed = {key: value for key, value in fixed.items() if not key.startswith("tracking.")}
    folder = outputs / "sweeps" / config.name
    common = folder / "common"
    if not cluster.started_here:
        common.mkdir(parents=True, exist_ok=True)
        check_nodes(common, _stdout)

    def objective(parameters: dict[str, Any], report: Report) -> Mapping[str, Any]:
        return run_trial({**computed, "run.outputs": str(outputs), **parameters}, report, common)

    with locked(folder, what="sweep", say=_stdout, next_command="wait for it, or choose another sweep.name"):
        result = sweep(
            objective, config, outputs, storage=engine.storage, resume=not given.new,
            tracking_uri=tracking.uri, experiment=experiment_name(tracking.experiment),
            prepare=lambda: prepare(composed, common, Reporter()), progress=_stdout,
        )  # fmt: skip
    _stdout(result.table())
    if given.json:
        write_result(given.json, json.dumps(asdict(result), indent=2, default=str) + "\n", overwrite=True)
    _stdout(f"table, trials and plots: {folder}")
    best = result.best
    if best is None:
        sys.stderr.write(f"no trial was measured; see {folder / 'result.json'} for their errors\n")
        return 1
    mean = f" (mean of {best.metrics['seeds']:.0f} seeds)" if result.pooled() else ""
    _stdout(f"best: {config.metric} {best.value:.4g}{mean} in trial {best.id}")
    words = masked_words(_texts({**fixed, **best.parameters}))
    _stdout(f"next: posegen run {shlex.join(words)}")
    return 0
