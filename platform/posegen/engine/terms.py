"""The terms of a training on Ray Train: where it is kept, what it claims, how it is fed and reads, what it reports.

Each is frozen and has defaults that fit a training by itself on this machine; see posegen.engine.train.run_training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from posegen.engine.side_by_side import Turn
from posegen.errors import ConfigError


@dataclass(frozen=True)
class Place:
    """Where a training is kept.

    Attributes:
        storage: a folder, an address (`s3://...`), or, with `filesystem`, a path on it.
        name: of the training's own folder there. Who trains again under it goes on where the last call stopped.
        history: the file of one line a step, on this machine's disk; None: in the training's folder.
        fingerprint: names the configuration; a stored training of another one is refused. None: of the configuration.
        filesystem: of pyarrow.

    Raises ConfigError on use: a storage elsewhere without `history`.
    """

    storage: str | Path
    name: str
    history: str | Path | None = None
    fingerprint: str | None = None
    filesystem: Any = None

    @property
    def elsewhere(self) -> bool:
        """Not on this machine's disk, as far as one can tell."""
        return self.filesystem is not None or "://" in str(self.storage)

    @property
    def root(self) -> str:
        """The storage as Ray takes it."""
        return str(self.storage if self.elsewhere else _absolute(self.storage)).rstrip("/")

    @property
    def folder(self) -> str:
        return f"{self.root}/{self.name}"

    @cached_property
    def history_file(self) -> Path:
        """Of history.jsonl; the folder is made."""
        if self.history is None and self.elsewhere:
            raise ConfigError("give `history`, a local path, when the storage is remote", where=self.storage)
        file = _absolute(self.history or f"{self.folder}/history.jsonl")
        file.parent.mkdir(parents=True, exist_ok=True)
        return file


@dataclass(frozen=True)
class Claim:
    """What a training claims of the cluster, and how long it holds on to it.

    Attributes:
        workers: how many, or (fewest, most): the training then grows and shrinks with the cluster.
        cpus: of each worker.
        gpus: of each worker; may be a fraction.
        max_failures: how many deaths of workers are survived.
        wait_s: how long an autoscaler may take to bring the nodes.
        checked: False where several trainings are meant to queue (trials of a sweep).
        resize_every_s: how often an elastic training looks whether the cluster has grown.
        turn: where several stages run side by side, posegen.engine.side_by_side.SideBySide.turn().
    """

    workers: int | tuple[int, int] = 1
    cpus: float = 1
    gpus: float = 0
    max_failures: int = 3
    wait_s: float = 0.0
    checked: bool = True
    resize_every_s: float = 30.0
    turn: AbstractContextManager[Turn] | None = None

    @property
    def fewest(self) -> int:
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def num_workers(self) -> int | tuple[int, int]:
        """As Ray Train takes it, which refuses a range of one number."""
        return self.fewest if self.workers == (self.fewest, self.fewest) else self.workers

    @property
    def bundle(self) -> dict[str, float]:
        """Of one worker."""
        return {"CPU": float(self.cpus)} | ({"GPU": float(self.gpus)} if self.gpus else {})


@dataclass(frozen=True)
class Feed:
    """What each step of a training is given.

    Attributes:
        batches: callable(config, loop=, rank=, world_size=) giving each step's arguments; see loops.Batches.
        begin: called in a worker before its loop is built; what it returns is given to `batches` as `tables`.
        datasets: of Ray Data, by name, or callables that make them (called at each start of the workers).
        data_config: ray.train.DataConfig, how they are split and buffered; None: Ray's own.
        bundles: resources that the data sets' stages ask beside the workers.
    """

    batches: Callable[..., Any] | None = None
    begin: Callable[[], Any] | None = None
    datasets: Mapping[str, Any] = field(default_factory=dict)
    data_config: Any = None
    bundles: Sequence[Mapping[str, float]] = ()


@dataclass(frozen=True)
class Reading:
    """How workers read the rows, see posegen.finetune.rows.GeneratedRows.

    Attributes:
        seed: of their order.
        keep_mb: of rows in each worker's memory.
        stream_share: of the steps, those that take rows as they come.
    """

    seed: int = 0
    keep_mb: float = 1024
    stream_share: float = 0.5


@dataclass(frozen=True)
class Reports:
    """What a training tells and keeps while it runs.

    Attributes:
        on_metrics: called with each step's row (from a thread of this process); after a restart of a worker a step
            may come twice.
        checkpoint_every: steps.
        every: at most every so many steps and `interval_s` seconds; a report holds all steps since the last one.
        publish: called in the first worker with a version number and the loop's state at each checkpoint, and with
            those of the checkpoint it resumes from; see posegen.engine.worker.version_of.
        callbacks: more callbacks of Ray Train.

    Raises ConfigError: a number of steps below 1.
    """

    on_metrics: Callable[[dict[str, float]], None] | None = None
    checkpoint_every: int = 50
    every: int = 10
    interval_s: float = 1.0
    publish: Callable[[int, dict[str, Any]], None] | None = None
    callbacks: Sequence[Any] = ()

    def __post_init__(self) -> None:
        for label, value in (("checkpoint_every", self.checkpoint_every), ("every", self.every)):
            if value < 1:
                raise ConfigError(f"{label} must be at least 1, got {value}")


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().absolute()
