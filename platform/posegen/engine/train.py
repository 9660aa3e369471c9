"""Any of the training loops as a Ray Train run: data-parallel, elastic, resumable, on any storage."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posegen.config.names import plain
from posegen.engine.cluster import set_environment
from posegen.engine.side_by_side import Turn
from posegen.errors import CheckpointError, ConfigError
from posegen.files.state import parse_json, read_history, read_text

logger = logging.getLogger(__name__)

OnMetrics = Callable[[dict[str, float]], None]
START_TIMEOUT_S = 20.0  # of a worker group; as cluster.py sets it for Ray


@dataclass(frozen=True)
class TrainOutcome:
    """How a training run ended.

    Args:
        steps: finished steps, all sessions together.
        metrics: of the last step.
        history: history.jsonl, one line a step.
        checkpoint: the last one; `state()` loads it.
        seconds: of this session.
        restarts: worker groups that were started again after a failure in this session.
        resumed_from: the step this session began at.
        counts: more figures for a stage's marker.
        overhead_s: that the first worker spent on reports and checkpoints, since its last start.
    """

    steps: int
    metrics: dict[str, float]
    history: Path
    checkpoint: Any
    seconds: float
    restarts: int = 0
    resumed_from: int = 0
    world_size: int = 1
    overhead_s: float = 0.0
    failures: list[str] = field(default_factory=list)
    counts: Mapping[str, int] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        """The loop's final state_dict, on the CPU."""
        from posegen.engine.worker import load_checkpoint

        return load_checkpoint(self.checkpoint)["loop"]


def fingerprint_of(config: Any) -> str:
    """Names a configuration; two that differ anywhere differ here."""
    text = json.dumps(plain(config), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_training(  # noqa: PLR0913 - by keyword, each with a default that one caller or another changes
    kind: str,
    config: Any,
    *,
    storage: str | Path,
    name: str,
    workers: int | tuple[int, int] = 1,
    cpus_per_worker: float = 1,
    gpus_per_worker: float = 0,
    on_metrics: OnMetrics | None = None,
    mlflow_run_id: str | None = None,
    checkpoint_every: int = 50,
    report_every: int = 10,
    report_interval_s: float = 1.0,
    history: str | Path | None = None,
    storage_filesystem: Any = None,
    datasets: Mapping[str, Any] | None = None,
    batches: Callable[..., Any] | None = None,
    data_config: Any = None,
    data_bundles: list[dict[str, float]] | None = None,
    max_failures: int = 3,
    wait_s: float = 0.0,
    fingerprint: str | None = None,
    check_resources: bool = True,
    elastic_interval_s: float = 30.0,
    publish: Callable[[int, dict[str, Any]], None] | None = None,
    turn: AbstractContextManager[Turn] | None = None,
    callbacks: Sequence[Any] = (),
) -> TrainOutcome:
    """Runs a loop to its end, from where an earlier call with the same name and storage stopped.

    Args:
        kind: "adversarial", "finetune", or "module:Class" of a loop with the same members.
        config: plain and picklable; given to the loop as it is.
        storage: folder (or, with `storage_filesystem`, a path on it) that holds the run's folder `name`.
        workers: how many, or (fewest, most): the run then grows and shrinks with the cluster.
        gpus_per_worker: may be a fraction.
        on_metrics: called with each step's row (from a thread of this process); after a restart of a worker a step
            may come twice.
        mlflow_run_id: steps are logged to this run.
        checkpoint_every: steps.
        report_every, report_interval_s: at most every so many steps and seconds; a report holds all steps since the
            last one.
        history: where history.jsonl goes; default: in the run's folder. Always on this machine's disk.
        datasets: of Ray Data, by name, or callables that make them (called at each start of the workers).
        batches: callable(config, loop=, rank=, world_size=) giving each step's arguments; see worker.Batches.
        data_config: ray.train.DataConfig, how they are split and buffered.
        data_bundles: resources that the data sets' stages ask beside the workers.
        max_failures: how many deaths of workers are survived.
        wait_s: how long an autoscaler may take to bring the nodes.
        fingerprint: names the configuration; a stored run of another one is refused. Default: of `config`.
        check_resources: False where several runs are meant to queue (trials of a sweep).
        publish: called in the first worker with a version number and the loop's state at each checkpoint, and with
            those of the checkpoint it resumes from; see posegen.engine.worker.version_of.
        turn: where several stages run side by side, posegen.engine.side_by_side.SideBySide.turn().
        callbacks: more callbacks of Ray Train.
    """
    set_environment()
    import ray.train
    import ray.train.torch

    from posegen.engine import resources
    from posegen.engine.failures import explain
    from posegen.engine.history import FailureWriter, HistoryWriter
    from posegen.engine.network import NodeTorchConfig
    from posegen.engine.orphans import Orphans
    from posegen.engine.private_ray import trainer_that_calls_first
    from posegen.engine.worker import train_worker

    v2: Any = ray.train  # its type stubs are those of V1
    for label, value in (("checkpoint_every", checkpoint_every), ("report_every", report_every)):
        if value < 1:
            raise ConfigError(f"{label} must be at least 1, got {value}")
    fingerprint = fingerprint or fingerprint_of(config)
    storage_path = str(storage) if storage_filesystem is not None or "://" in str(storage) else str(_absolute(storage))
    if history is None:
        if storage_filesystem is not None or "://" in str(storage):
            raise ConfigError("give `history`, a local path, when the storage is remote", where=storage)
        history = Path(storage_path) / name / "history.jsonl"
    history = _absolute(history)
    history.parent.mkdir(parents=True, exist_ok=True)
    failures = history.with_name("failures.jsonl")
    failures.unlink(missing_ok=True)

    began = time.monotonic()
    stored = _stored_result(storage_path, name, storage_filesystem)
    if stored is not None:
        _check_same(stored, fingerprint, f"{storage_path}/{name}")
        if stored.metrics["step"] >= stored.metrics["steps"]:
            rows = read_history(history)
            return TrainOutcome(
                steps=stored.metrics["step"], metrics=rows[-1] if rows else {}, history=history,
                checkpoint=stored.checkpoint, seconds=time.monotonic() - began, resumed_from=stored.metrics["step"],
                world_size=stored.metrics["world_size"],
            )  # fmt: skip

    fewest, most = (workers, workers) if isinstance(workers, int) else workers
    bundle = {"CPU": float(cpus_per_worker)} | ({"GPU": float(gpus_per_worker)} if gpus_per_worker else {})
    trainer = trainer_that_calls_first(Orphans())(
        train_worker,
        train_loop_config={
            "kind": kind,
            "config": config,
            "threads": max(1, int(cpus_per_worker)),
            "checkpoint_every": checkpoint_every,
            "report_every": report_every,
            "report_interval_s": report_interval_s,
            "fingerprint": fingerprint,
            "batches": batches,
            "publish": publish,
        },
        torch_config=NodeTorchConfig(backend="nccl" if gpus_per_worker >= 1 else "gloo"),
        scaling_config=v2.ScalingConfig(
            num_workers=fewest if fewest == most else (fewest, most),
            use_gpu=gpus_per_worker > 0,
            resources_per_worker=bundle,
            elastic_resize_monitor_interval_s=elastic_interval_s,
        ),
        run_config=v2.RunConfig(
            name=name,
            storage_path=storage_path,
            storage_filesystem=storage_filesystem,
            failure_config=v2.FailureConfig(
                max_failures=max_failures,
                # Ray would try to place the workers for ever
                controller_failure_limit=max(2, math.ceil(wait_s / START_TIMEOUT_S)),
            ),
            checkpoint_config=v2.CheckpointConfig(num_to_keep=2),
            callbacks=[HistoryWriter(history), FailureWriter(failures, name), *callbacks],
        ),
        datasets=dict(datasets or {}),
        dataset_config=data_config or v2.DataConfig(),
    )
    with turn or nullcontext() as mine:
        if check_resources:
            patience: dict[str, Any] = {} if mine is None else {"free_within_s": math.inf, "progress": mine.waiting}
            resources.require([bundle] * fewest + list(data_bundles or []), name, wait_s=wait_s, **patience)
        sinks: list[OnMetrics] = [on_metrics] if on_metrics else []
        if mine is not None:
            mine.check()
            sinks.append(mine.started)
        with _follow(history, sinks, mlflow_run_id), _own_interrupt():
            try:
                result = trainer.fit()
            # A RayError: the controller itself died.
            except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
                raise explain(error, name) from error
    seen = _failure_lines(failures)
    rows = read_history(history)
    return TrainOutcome(
        steps=result.metrics["step"],
        metrics=rows[-1] if rows else {},
        history=history,
        checkpoint=result.checkpoint,
        seconds=time.monotonic() - began,
        restarts=len(seen),
        resumed_from=stored.metrics["step"] if stored is not None else 0,
        world_size=result.metrics["world_size"],
        overhead_s=(result.return_value or {}).get("overhead_s", 0.0),
        failures=seen,
    )


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().absolute()


def _failure_lines(path: Path) -> list[str]:
    """What FailureWriter has kept; lines that a kill cut short are left out."""
    try:
        lines = read_text(path, "the list of failures").splitlines()
    except FileNotFoundError:
        return []
    seen = []
    for line in lines:
        try:
            seen.append(str(parse_json(line)["error"]))
        except (ValueError, KeyError, TypeError):
            logger.warning("%s: a line cannot be read", path)
    return seen


def _stored_result(storage_path: str, name: str, filesystem: Any) -> Any:
    """What an earlier call left, or None. Ray keeps a snapshot of its checkpoints beside them."""
    import ray.train

    try:
        result = ray.train.Result.from_path(f"{storage_path.rstrip('/')}/{name}", storage_filesystem=filesystem)
    except RuntimeError:  # no folder, or no checkpoint yet
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"the record of this run's checkpoints is damaged: {error}",
            where=f"{storage_path}/{name}/checkpoint_manager_snapshot.json",
            next_command=f"rm -r {storage_path}/{name}  # the stage starts anew",
        ) from error
    return result if result.checkpoint is not None and result.metrics and "steps" in result.metrics else None


def _check_same(stored: Any, fingerprint: str, where: str) -> None:
    if stored.metrics.get("fingerprint") != fingerprint:
        raise CheckpointError(
            "a run of another configuration is stored under this name",
            where=where,
            next_command=f"rm -r {where}  # or choose another run name",
        )


@contextmanager
def _own_interrupt() -> Iterator[None]:
    """Ctrl-C ends the run in good order and reaches the caller as KeyboardInterrupt.

    Ray's handler aborts the workers, leaves the process by SystemExit and stays installed for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _follow(history: Path, sinks: list[OnMetrics], mlflow_run_id: str | None) -> Iterator[None]:
    """Hands on the rows of a history file as they are written; it is written on this machine, by Ray's controller."""
    if mlflow_run_id:
        sinks = [*sinks, _mlflow_sink(mlflow_run_id)]
    if not sinks:
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_tail, args=(history, sinks, done), name="posegen-history", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=30)


def _tail(history: Path, sinks: list[OnMetrics], done: threading.Event) -> None:
    known = len(read_history(history))
    last = read_history(history)[-1]["step"] if known else 0
    while True:
        finished = done.wait(0.25)
        rows = read_history(history, tell=logger.debug)
        # After a resume the file is cut back; rows of steps that were handed on before are not repeated.
        for row in rows:
            if row["step"] <= last:
                continue
            last = row["step"]
            for sink in list(sinks):
                try:
                    sink(row)
                except Exception:  # progress must never end the training
                    logger.exception("following the training's metrics stopped")
                    sinks.remove(sink)
        if finished:
            return


def _mlflow_sink(run_id: str) -> OnMetrics:
    """Logs rows to an MLflow run by id: the run was made by the driver and survives restarts."""
    import mlflow
    from mlflow.entities import Metric

    client = mlflow.MlflowClient()

    def log(row: dict[str, float]) -> None:
        now = int(time.time() * 1000)
        values = [
            Metric(k, float(v), now, int(row["step"])) for k, v in row.items() if k != "step" and math.isfinite(v)
        ]
        client.log_batch(run_id, metrics=values)

    return log
