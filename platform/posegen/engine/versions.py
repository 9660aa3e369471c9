"""The newest weights of a generator that is still being trained, and which rows are fresh enough to be used.

One actor holds the version and judges the rows, so that there is one order of all that happens: a row that was taken
was fresh at that moment, whatever is published a moment later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posegen.errors import EngineError


@dataclass(frozen=True)
class Event:
    """What happened on the board, in this order.

    Args:
        kind: "published", "taken" (rows were used), "dropped" (rows were too old and are rendered again) or "ended"
            (the training's last version is there).
        version: that was published, or that made the rows.
        newest: version at that moment.
        first_row, rows: which rows; 0 where the event is not about rows.
    """

    kind: str
    version: int
    newest: int
    first_row: int = 0
    rows: int = 0


class _Board:
    """The actor. Its methods run one at a time."""

    def __init__(self) -> None:
        self.version = 0
        self.weights: list[Any] = []
        self.failure: str | None = None
        self.events: list[Event] = []
        self.changed = asyncio.Event()  # a first version, or a failure

    async def publish(self, version: int, weights: Any) -> None:
        import ray

        if version > self.version:
            # Put by this actor, which outlives the training: an object is lost with the process that put it.
            self.version, self.weights = version, [ray.put(weights)]
            self.events.append(Event("published", version, version))
            self.changed.set()

    async def end(self) -> None:
        self.events.append(Event("ended", self.version, self.version))

    async def fail(self, what: str) -> None:
        self.failure = what
        self.changed.set()

    async def newer_than(self, known: int) -> tuple[int, list[Any], str | None]:
        await self.changed.wait()
        return self.version, self.weights if self.version > known else [], self.failure

    async def take(self, version: int, max_age: int, first_row: int, rows: int) -> tuple[bool, int, str | None]:
        fresh = self.version - version <= max_age
        self.events.append(Event("taken" if fresh else "dropped", version, self.version, first_row, rows))
        return fresh, self.version, self.failure

    async def log(self) -> list[Event]:
        return self.events


class VersionBoard:
    """Where the training of a generator publishes its weights, and rows are judged; can be passed to actors.

    Weights are put into the object store once, however many renderers fetch them.
    """

    def __init__(self, actor: Any = None) -> None:
        import ray

        remote: Any = ray.remote(num_cpus=0)(_Board)
        self.actor = remote.remote() if actor is None else actor

    def __reduce__(self):
        return (VersionBoard, (self.actor,))

    def publish(self, version: int, weights: Any) -> None:
        """Makes `weights` the newest; versions count up from 1. An older version changes nothing."""
        import ray

        ray.get(self.actor.publish.remote(version, weights))

    def publish_generator(self, version: int, state: Mapping[str, Any]) -> None:
        """Publishes what a training's state has under "generator"."""
        self.publish(version, state["generator"])

    def end(self) -> None:
        """The training is over: no version follows."""
        import ray

        ray.get(self.actor.end.remote())

    def fail(self, what: str) -> None:
        """The training failed: whoever waits for versions, or uses rows, fails too."""
        import ray

        ray.get(self.actor.fail.remote(what))

    def newer_than(self, known: int) -> tuple[int, Any]:
        """The newest version with its weights; None for the weights when `known` is the newest. Waits for the first."""
        import ray

        version, reference, failure = ray.get(self.actor.newer_than.remote(known))
        _raise(failure)
        return version, ray.get(reference[0]) if reference else None

    def take(self, version: int, max_age: int, first_row: int, rows: int) -> tuple[bool, int]:
        """Whether rows of a version may be used now, and the newest version."""
        import ray

        fresh, newest, failure = ray.get(self.actor.take.remote(version, max_age, first_row, rows))
        _raise(failure)
        return fresh, newest

    def events(self) -> list[Event]:
        """All that happened so far, in order."""
        import ray

        return ray.get(self.actor.log.remote())


def _raise(failure: str | None) -> None:
    if failure is not None:
        raise EngineError(f"the generator's training failed: {failure}", where="overlap")
