"""Sweeps: Ray Tune over an objective that may itself start Ray Train, Data and actors.

A trial is a light driver process. What its workers hold is not booked by Tune but by the workers themselves, so the
number of trials at once is worked out beforehand: with all of them running, each can still have all it asks for, and
none waits for what another waits with.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from posegen.engine.private_ray import dashboard_url, hand_down
from posegen.engine.sweep_limit import concurrency, limit, own_interrupt, scheduler
from posegen.engine.sweep_result import SweepResult, collect
from posegen.engine.sweep_space import SweepConfig, check, size, tune_space
from posegen.engine.sweep_watch import SweepRuns, Watcher, listen, numbers
from posegen.errors import ConfigError, EngineError
from posegen.files.atomic import write_json
from posegen.files.secrets import masked_words
from posegen.files.state import read_json

log = logging.getLogger(__name__)

Report = Callable[[Mapping[str, float]], None]
Objective = Callable[[dict[str, Any], Report], Mapping[str, Any]]
DRIVER_MEMORY = 64 * 2**20  # bytes that the trial's own process books: enough to be placed, and never a CPU


def sweep(  # noqa: PLR0913 - a sweep, where it is kept and where it is tracked
    objective: Objective,
    config: SweepConfig,
    outputs: Path | str = "outputs",
    *,
    storage: str | None = None,
    resume: bool = True,
    tracking_uri: str | None = None,
    experiment: str | None = "posegen",
    prepare: Callable[[], None] = lambda: None,
    progress: Callable[[str], None] = log.info,
) -> SweepResult:
    """Searches `config.space` for the best value of `config.metric`. Ray is connected to already.

    Args:
        objective: `(parameters, report) -> final metrics`; calls `report(metrics)` as it goes, each time with the
            metric, so that ASHA can stop it. An exception fails the trial, not the sweep.
        config: what is searched and how.
        outputs: folder of runs; the sweep's own files are in <outputs>/sweeps/<name>.
        storage: folder or URI of Tune's state, shared by all nodes; none is <outputs>/sweeps.
        resume: go on with an interrupted sweep of this name; otherwise a sweep that exists is an error.
        tracking_uri: MLflow store; none reads the environment, else SQLite in `outputs`.
        experiment: MLflow experiment; none logs nothing.
        prepare: called before the first trial, once it is known that the sweep can run.
        progress: gets a line for the user now and then.
    """
    import ray
    from ray import tune

    check(config)
    listen(config.name, progress)
    _require_dashboard()
    at_once = concurrency(config, ray.cluster_resources())
    folder = Path(outputs).resolve() / "sweeps" / config.name
    folder.mkdir(parents=True, exist_ok=True)
    root = storage or str(folder.parent)
    state = f"{root.rstrip('/')}/{config.name}"
    _same_sweep(config, folder)
    tracking = _open_tracking(config, outputs, experiment, tracking_uri)
    trainable = _trainable(objective, config)
    prepare()
    found = tune.Tuner.can_restore(state)
    if found and not resume:
        raise EngineError(
            f"a sweep called {config.name!r} exists",
            where=state,
            next_command="without --new it goes on; or sweep.name=ANOTHER",
        )
    limit(at_once)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once)  # until the scheduler is asked for the first time
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # see own_interrupt
    # Tune would write its state every ten seconds or less often: trials that ended since would be run again.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new output prints headers even at verbose=0
    if found:
        progress(f"resuming sweep {config.name}, {at_once} trials at once, in {state}")
        tuner = tune.Tuner.restore(state, trainable=trainable, resume_unfinished=True, restart_errored=True)
    else:
        progress(f"sweep {config.name}: {size(config)} trials, {at_once} at once, {config.search} search, in {state}")
        tuner = tune.Tuner(
            trainable,
            param_space=tune_space(config),
            tune_config=tune.TuneConfig(
                metric=config.metric,
                mode=config.mode,
                num_samples=1 if config.search == "grid" else config.trials,
                search_alg=_search(config),
                scheduler=scheduler(config),
                reuse_actors=False,  # a trial's process is its own: its environment and workers end with it
                trial_dirname_creator=_trial_id,
            ),
            run_config=tune.RunConfig(
                name=config.name,
                storage_path=root,
                failure_config=tune.FailureConfig(max_failures=config.max_failures),
                callbacks=[Watcher(config.name, config.metric, tracking)],
                verbose=0,
            ),
        )
    try:
        with own_interrupt():
            outcome = tuner.fit()
    except KeyboardInterrupt:
        if tracking is not None:
            tracking.kill()
        raise
    result = collect(outcome, config, state, tracking)
    result.write(folder)
    if tracking is not None:
        result.track(folder, tracking)
    return result


def _trial_id(trial: Any) -> str:
    return trial.trial_id


def _require_dashboard() -> None:
    """Ray Train frees what a stopped trial's workers held through the State API, which the dashboard serves."""
    if not dashboard_url():
        raise EngineError(
            "a sweep needs Ray's dashboard: without its State API stopped trials keep their CPUs and the rest waits",
            where="Ray's dashboard",
            next_command="connect with the dashboard (it listens on 127.0.0.1 only)",
        )


def _same_sweep(config: SweepConfig, folder: Path) -> None:
    """Trials of two different searches do not belong in one table."""
    told = {
        key: getattr(config, key) for key in ("space", "overrides", "search", "grid_points", "metric", "mode", "seed")
    }
    told["overrides"] = masked_words(told["overrides"])
    path = folder / "sweep.json"
    if path.is_file():
        before = read_json(path, "the sweep's record", f"posegen sweep sweep=... sweep.name=NEW, or rm {path}")
        changed = [key for key, value in told.items() if before.get(key) != json.loads(json.dumps(value))]
        if changed:
            raise ConfigError(
                f"the sweep {config.name!r} was begun with another {', '.join(changed)}",
                where=path,
                next_command="give this one another name: posegen sweep sweep=... sweep.name=...",
            )
    write_json(path, told)


def _search(config: SweepConfig) -> Any:
    if config.search == "optuna":
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return OptunaSearch(metric=config.metric, mode=config.mode, seed=config.seed)
    from ray.tune.search import BasicVariantGenerator

    return BasicVariantGenerator(random_state=config.seed)


def _trainable(objective: Objective, config: SweepConfig) -> Any:
    from ray import tune

    metric = config.metric

    def measured(metrics: Mapping[str, Any], complete: bool) -> dict[str, Any]:
        kept = numbers(metrics)
        if metric not in kept:
            raise ConfigError(f"{metric!r} was not reported", where="the sweep's metric", choices=sorted(kept))
        return {**kept, "complete": complete}

    def trial(parameters: dict[str, Any]) -> None:
        _name_the_cluster()
        final = objective(dict(parameters), lambda metrics: tune.report(measured(metrics, complete=False)))
        tune.report(measured(final, complete=True))

    held = dict(config.trial_resources) if config.in_process else {"memory": float(DRIVER_MEMORY)}
    return tune.with_resources(trial, held)


def _name_the_cluster() -> None:
    """Tells the processes of a trial's training which Ray they belong to.

    Ray Train's PlacementGroupCleaner frees what a stopped trial's workers held. It asks the State API, which looks for
    "the latest Ray of this machine": with two of them it may ask the wrong one, and the CPUs are held for ever. Train
    hands a fixed set of variables down to its processes; RAY_ADDRESS is made one of them.
    """
    import ray

    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    hand_down(["RAY_ADDRESS"])


def _open_tracking(
    config: SweepConfig, outputs: Path | str, experiment: str | None, uri: str | None
) -> SweepRuns | None:
    if experiment is None:
        return None
    from posegen.tracking.store.mlflow_store import Tracker

    tracker = Tracker(outputs, experiment, uri)
    tracking = SweepRuns(str(Path(outputs).resolve()), experiment, tracker.uri, f"sweep/{config.name}")
    tracking.parent().params({key: value for key, value in asdict(config).items() if key != "space"})
    return tracking
