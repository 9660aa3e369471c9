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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from posegen.engine.sweep_space import SweepConfig, check, size, tune_space
from posegen.engine.sweep_watch import SweepRuns, Watcher, cell, error_line, listen, numbers
from posegen.errors import ConfigError, EngineError

log = logging.getLogger(__name__)

Report = Callable[[Mapping[str, float]], None]
Objective = Callable[[dict[str, Any], Report], Mapping[str, Any]]
DRIVER_MEMORY = 64 * 2**20  # bytes that the trial's own process books: enough to be placed, and never a CPU
_FINISHED, _STOPPED, _FAILED = "finished", "stopped", "failed"


@dataclass(frozen=True)
class Trial:
    """One row of a sweep's table. `value` is the metric's last value, None if it reported none."""

    id: str
    state: str  # finished | stopped (by the scheduler, early) | failed
    parameters: dict[str, Any]
    value: float | None
    reports: int
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class SweepResult:
    """All trials, best first."""

    name: str
    metric: str
    mode: str
    directory: str
    trials: tuple[Trial, ...]
    mlflow_run_id: str | None = None

    @property
    def best(self) -> Trial | None:
        """The best trial that ran to its end; failing that, the best of those that were stopped early."""
        measured = [trial for trial in self.trials if trial.value is not None and trial.state != _FAILED]
        return next((t for t in measured if t.state == _FINISHED), measured[0] if measured else None)

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"trial": t.id, "state": t.state, self.metric: t.value, "reports": t.reports, **t.parameters}
            for t in self.trials
        ]

    def table(self) -> str:
        """The trials as aligned text, best first."""
        rows = [{key: cell(value) for key, value in row.items()} for row in self.rows()]
        if not rows:
            return "no trials"
        widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
        lines = ["  ".join(f"{key:<{width}}" for key, width in widths.items())]
        lines += ["  ".join(f"{row[key]:<{width}}" for key, width in widths.items()) for row in rows]
        return "\n".join(line.rstrip() for line in lines)


def concurrency(config: SweepConfig, cluster: Mapping[str, float]) -> int:
    """How many trials may run at once. Raises EngineError if the cluster has no room for even one."""
    asked = {name: amount for name, amount in config.trial_resources.items() if amount > 0}
    if config.growing_cluster and config.max_concurrent:
        return config.max_concurrent
    room = min((int((cluster.get(name, 0.0) + 1e-9) // amount) for name, amount in asked.items()), default=size(config))
    if room < 1:
        present = {name: cluster.get(name, 0) for name in asked}
        raise EngineError(
            f"a trial asks for {_resources(asked)}, the cluster has {_resources(present)}",
            where="trial_resources of the sweep",
            next_command="ask for less, or add nodes; growing_cluster=true with max_concurrent trusts an autoscaler",
        )
    return max(1, min(room, config.max_concurrent or room, size(config)))


def _resources(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in amounts.items()) or "nothing"


def sweep(
    objective: Objective,
    config: SweepConfig,
    outputs: Path | str = "outputs",
    *,
    storage: str | None = None,
    resume: bool = True,
    tracking_uri: str | None = None,
    experiment: str | None = "posegen",
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
    found = tune.Tuner.can_restore(state)
    if found and not resume:
        raise EngineError(
            f"a sweep called {config.name!r} exists", where=state, next_command="resume it, or choose another name"
        )
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once)  # this sweep's, whatever an earlier one in here needed
    # Tune would write its state every ten seconds or less often: trials that ended since would be run again.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new output prints headers even at verbose=0
    if found:
        progress(f"resuming sweep {config.name} in {state}")
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
                search_alg=_search(config, at_once),
                scheduler=_scheduler(config),
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
    outcome = tuner.fit()
    result = _collect(outcome, config, state, tracking)
    _write(result, folder)
    if tracking is not None:
        _finish_tracking(result, folder, tracking)
    return result


def _trial_id(trial: Any) -> str:
    return trial.trial_id


def _require_dashboard() -> None:
    """Ray Train frees what a stopped trial's workers held through the State API, which the dashboard serves."""
    import ray

    if not ray._private.worker.get_dashboard_url():
        raise EngineError(
            "a sweep needs Ray's dashboard: without its State API stopped trials keep their CPUs and the rest waits",
            where="include_dashboard=False",
            next_command="connect with the dashboard (it listens on 127.0.0.1 only)",
        )


def _same_sweep(config: SweepConfig, folder: Path) -> None:
    """Trials of two different searches do not belong in one table."""
    told = {
        key: getattr(config, key) for key in ("space", "overrides", "search", "grid_points", "metric", "mode", "seed")
    }
    path = folder / "sweep.json"
    if path.is_file():
        before = json.loads(path.read_text())
        changed = [key for key, value in told.items() if before.get(key) != json.loads(json.dumps(value))]
        if changed:
            raise ConfigError(
                f"the sweep {config.name!r} was begun with another {', '.join(changed)}",
                where=path,
                next_command="give this one another name: posegen sweep sweep=... sweep.name=...",
            )
    path.write_text(json.dumps(told, indent=2))


def _search(config: SweepConfig, at_once: int) -> Any:
    """The searcher, with the limit in it: Tune's max_concurrent_trials does nothing to a generator it is handed."""
    if config.search == "optuna":
        from ray.tune.search import ConcurrencyLimiter
        from ray.tune.search.optuna import OptunaSearch

        return ConcurrencyLimiter(OptunaSearch(metric=config.metric, mode=config.mode, seed=config.seed), at_once)
    from ray.tune.search import BasicVariantGenerator

    return BasicVariantGenerator(random_state=config.seed, max_concurrent=at_once)


def _scheduler(config: SweepConfig) -> Any:
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    if config.scheduler == "none":
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="training_iteration",
        grace_period=min(config.grace_reports, config.max_reports),
        max_t=config.max_reports,
        reduction_factor=config.reduction_factor,
    )


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
    from ray.train.v2._internal.constants import ENV_VARS_TO_PROPAGATE

    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    ENV_VARS_TO_PROPAGATE.add("RAY_ADDRESS")


def _open_tracking(
    config: SweepConfig, outputs: Path | str, experiment: str | None, uri: str | None
) -> SweepRuns | None:
    if experiment is None:
        return None
    from posegen.tracking.mlflow_store import Tracker

    tracker = Tracker(outputs, experiment, uri)
    tracking = SweepRuns(str(Path(outputs).resolve()), experiment, tracker.uri, f"sweep/{config.name}")
    tracking.parent().params({key: value for key, value in asdict(config).items() if key != "space"})
    return tracking


def _collect(outcome: Any, config: SweepConfig, state: str, tracking: SweepRuns | None) -> SweepResult:
    trials = []
    for result in outcome:
        last = dict(result.metrics or {})
        value = last.get(config.metric)
        complete = bool(last.get("complete", False))
        trials.append(
            Trial(
                id=str(last.get("trial_id") or Path(result.path).name),
                state=_FAILED if result.error else _FINISHED if complete else _STOPPED,
                parameters=dict(result.config or {}),
                value=None if value is None else float(value),
                reports=int(last.get("training_iteration", 0)),
                metrics=numbers(last),
                error=error_line(result.error) if result.error else None,
            )
        )
    sign = -1.0 if config.mode == "max" else 1.0
    trials.sort(key=lambda t: (t.state == _FAILED, t.value is None, sign * (t.value or 0.0)))
    run_id = None if tracking is None else tracking.parent().id
    return SweepResult(config.name, config.metric, config.mode, state, tuple(trials), run_id)


def _write(result: SweepResult, folder: Path) -> None:
    """<folder>/result.json, table.txt and figures, for people and programs."""
    from posegen.tracking.sweep_plots import save_sweep_plots

    (folder / "result.json").write_text(json.dumps(asdict(result), indent=2, default=str))
    (folder / "table.txt").write_text(result.table() + "\n")
    trials = [{"params": t.parameters, "metrics": {result.metric: t.value}, "status": t.state} for t in result.trials]
    save_sweep_plots(trials, result.metric, folder, lower_is_better=result.mode == "min")


def _finish_tracking(result: SweepResult, folder: Path, tracking: SweepRuns) -> None:
    run = tracking.parent()
    rows = result.rows()
    if rows:
        run.table("trials", {key: [row[key] for row in rows] for key in rows[0]})
    if result.best is not None and result.best.value is not None:
        run.metrics({f"best/{result.metric}": result.best.value})
        run.tags({"posegen.best_trial": result.best.id})
    for path in (folder / "result.json", *sorted(folder.glob("*.png"))):
        run.artifact(path)
    run.finish()
