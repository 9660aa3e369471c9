"""Any of the training loops as a Ray Train run: data-parallel, elastic, resumable, on any storage."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from posegen.config.names import plain
from posegen.engine.cluster import set_environment
from posegen.engine.terms import Claim, Feed, Place, Reports
from posegen.errors import CheckpointError
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


def run_training(
    kind: str, config: Any, place: Place, *, claim: Claim = Claim(), feed: Feed = Feed(), reports: Reports = Reports()
) -> TrainOutcome:
    """Runs a loop to its end, from where an earlier call with the same place stopped.

    Args:
        kind: "adversarial", "finetune", or "module:Class" of a loop with the same members.
        config: plain and picklable; given to the loop as it is.
        place, claim, feed, reports: see posegen.engine.terms.

    Raises:
        CheckpointError: a training of another configuration is stored there, or its record is damaged.
        ConfigError: no place for the history. EngineError: the cluster has no room, or workers died too often.
        PosegenError: what the loop itself raised.
    """
    began = time.monotonic()
    if place.fingerprint is None:
        place = replace(place, fingerprint=fingerprint_of(config))
    failures = place.history_file.with_name("failures.jsonl")
    failures.unlink(missing_ok=True)
    set_environment()
    stored = _stored_result(place)
    if stored is not None:
        _check_same(stored, place)
        if stored.metrics["step"] >= stored.metrics["steps"]:
            return _outcome(place, stored, began, resumed_from=stored.metrics["step"])
    trainer = _trainer(kind, config, place, claim, feed, reports, failures)
    result = _fit(trainer, place, claim, feed, reports)
    seen = _failure_lines(failures)
    return _outcome(
        place, result, began,
        resumed_from=stored.metrics["step"] if stored is not None else 0,
        restarts=len(seen),
        overhead_s=(result.return_value or {}).get("overhead_s", 0.0),
        failures=seen,
    )  # fmt: skip


def _trainer(kind: str, config: Any, place: Place, claim: Claim, feed: Feed, reports: Reports, failures: Path) -> Any:
    """Ray Train's own, not yet begun."""
    import ray.train
    import ray.train.torch

    from posegen.engine.history import FailureWriter, HistoryWriter
    from posegen.engine.network import NodeTorchConfig
    from posegen.engine.orphans import Orphans
    from posegen.engine.private_ray import trainer_that_calls_first
    from posegen.engine.worker import train_worker

    v2: Any = ray.train  # its type stubs are those of V1
    return trainer_that_calls_first(Orphans())(
        train_worker,
        train_loop_config={
            "kind": kind,
            "config": config,
            "threads": max(1, int(claim.cpus)),
            "checkpoint_every": reports.checkpoint_every,
            "report_every": reports.every,
            "report_interval_s": reports.interval_s,
            "fingerprint": place.fingerprint,
            "batches": feed.batches,
            "begin": feed.begin,
            "publish": reports.publish,
        },
        torch_config=NodeTorchConfig(backend="nccl" if claim.gpus >= 1 else "gloo"),
        scaling_config=v2.ScalingConfig(
            num_workers=claim.num_workers,
            use_gpu=claim.gpus > 0,
            resources_per_worker=claim.bundle,
            elastic_resize_monitor_interval_s=claim.resize_every_s,
        ),
        run_config=v2.RunConfig(
            name=place.name,
            storage_path=place.root,
            storage_filesystem=place.filesystem,
            failure_config=v2.FailureConfig(
                max_failures=claim.max_failures,
                # Ray would try to place the workers for ever
                controller_failure_limit=max(2, math.ceil(claim.wait_s / START_TIMEOUT_S)),
            ),
            checkpoint_config=v2.CheckpointConfig(num_to_keep=2),
            callbacks=[HistoryWriter(place.history_file), FailureWriter(failures, place.name), *reports.callbacks],
        ),
        datasets=dict(feed.datasets),
        dataset_config=feed.data_config or v2.DataConfig(),
    )


def _fit(trainer: Any, place: Place, claim: Claim, feed: Feed, reports: Reports) -> Any:
    """Trains, in turn where there are turns; each step's row is handed on meanwhile. Raises EngineError."""
    import ray.exceptions
    import ray.train

    from posegen.engine import resources
    from posegen.engine.failures import explain

    with claim.turn or nullcontext() as mine:
        if claim.checked:
            patience: dict[str, Any] = {} if mine is None else {"free_within_s": math.inf, "progress": mine.waiting}
            asked = [claim.bundle] * claim.fewest + [dict(bundle) for bundle in feed.bundles]
            resources.require(asked, place.name, wait_s=claim.wait_s, **patience)
        sinks: list[OnMetrics] = [reports.on_metrics] if reports.on_metrics else []
        if mine is not None:
            mine.check()
            sinks.append(mine.started)
        with _follow(place.history_file, sinks), _own_interrupt():
            try:
                return trainer.fit()
            # A RayError: the controller itself died.
            except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
                raise explain(error, place.name) from error


def _outcome(place: Place, result: Any, began: float, **figures: Any) -> TrainOutcome:
    rows = read_history(place.history_file)
    return TrainOutcome(
        steps=result.metrics["step"],
        metrics=rows[-1] if rows else {},
        history=place.history_file,
        checkpoint=result.checkpoint,
        seconds=time.monotonic() - began,
        world_size=result.metrics["world_size"],
        **figures,
    )


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


def _stored_result(place: Place) -> Any:
    """What an earlier call left, or None. Ray keeps a snapshot of its checkpoints beside them."""
    import ray.train

    try:
        result = ray.train.Result.from_path(place.folder, storage_filesystem=place.filesystem)
    except RuntimeError:  # no folder, or no checkpoint yet
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"the record of this run's checkpoints is damaged: {error}",
            where=f"{place.folder}/checkpoint_manager_snapshot.json",
            next_command=f"rm -r {place.folder}  # the stage starts anew",
        ) from error
    return result if result.checkpoint is not None and result.metrics and "steps" in result.metrics else None


def _check_same(stored: Any, place: Place) -> None:
    if stored.metrics.get("fingerprint") != place.fingerprint:
        raise CheckpointError(
            "a run of another configuration is stored under this name",
            where=place.folder,
            next_command=f"rm -r {place.folder}  # or choose another run name",
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
def _follow(history: Path, sinks: list[OnMetrics]) -> Iterator[None]:
    """Hands on the rows of a history file as they are written; it is written on this machine, by Ray's controller."""
    if not sinks:
        yield
        return
    known = read_history(history)  # before anything is written that the thread has not seen
    last = int(known[-1]["step"]) if known else 0
    done = threading.Event()
    thread = threading.Thread(target=_tail, args=(history, last, sinks, done), name="posegen-history", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=30)


def _tail(history: Path, last: int, sinks: list[OnMetrics], done: threading.Event) -> None:
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
