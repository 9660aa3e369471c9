"""Stages of one process at work side by side on one cluster: nobody waits for ever, and Ctrl-C ends all of them.

Resources are taken in turns. A stage has the turn from the moment it asks for resources until its first row says that
it has all it needs; until it has the turn it holds nothing. So whoever waits holds nothing that another waits for, and
all others run to their end without anybody's help.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from posegen.engine.resources import describe, total_of, unplaced
from posegen.errors import ConfigError, EngineError, PosegenError

logger = logging.getLogger(__name__)

AUTO = "auto"

Bundles = list[dict[str, float]]


class Stopped(Exception):
    """A stage was asked to stop, because the run ends."""


class _Controllers:
    """Handles of the Ray Train controllers at work, so that the driver can end them."""

    def __init__(self) -> None:
        self.handles: list[Any] = []

    def add(self, handle: list[Any]) -> None:
        self.handles += handle

    def all(self) -> list[Any]:
        return self.handles


class Turn:
    """The right to take resources.

    Args:
        lock: held; released once.
        check: raises Stopped when the run ends.
    """

    def __init__(self, lock: threading.Lock, check: Callable[[], None]) -> None:
        self._lock, self.check = lock, check
        self._given_back = threading.Lock()

    def started(self, row: object = None) -> None:
        """The stage has all it needs: the next may begin. Takes a row of metrics, as a follower of a training does."""
        if self._given_back.acquire(blocking=False):
            self._lock.release()

    def waiting(self, text: str) -> None:
        """Says what is waited for."""
        self.check()
        logger.warning(text)


class SideBySide:
    """What the stages of one run share when several are at work."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._controllers: Any = None

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Waits for the turn to take resources, and has it until Turn.started is called or the block ends."""
        while not self._turn.acquire(timeout=0.2):
            self.check()
        turn = Turn(self._turn, self.check)
        try:
            self.check()
            yield turn
        finally:
            turn.started()

    def check(self) -> None:
        if self.stopping.is_set():
            raise Stopped

    def lifeline(self) -> Any:
        """A callback of Ray Train by which stop() reaches the run."""
        import ray

        from posegen.engine.lifeline import Lifeline

        with self._lock:
            if self._controllers is None:
                remote: Any = ray.remote(num_cpus=0)(_Controllers)
                self._controllers = remote.remote()
        return Lifeline(self._controllers)

    def stop(self) -> None:
        """Ends the training runs that are at work and lets no stage begin. May be called again and again."""
        import ray

        self.stopping.set()
        if self._controllers is None:
            return
        for controller in ray.get(self._controllers.all.remote()):
            controller.abort.remote()


def run_side_by_side(
    work: Mapping[str, Callable[[], Any]],
    count: int,
    together: SideBySide,
    on_error: Callable[[str, BaseException], None] = lambda name, error: None,
) -> dict[str, Any]:
    """Does named pieces of work in `count` threads; they begin in the given order.

    What fails does not hold up the others: `on_error` is told at once (from its thread), and when all have ended one
    failure is raised as it is, several as one error that names each. Ctrl-C ends all of them.

    Returns:
        the results by name, in the order of `work`.
    """
    waiting = deque(work)
    results: dict[str, Any] = {}
    errors: dict[str, BaseException] = {}

    def worker() -> None:
        while not together.stopping.is_set():
            try:
                name = waiting.popleft()
            except IndexError:
                return
            try:
                results[name] = work[name]()
            except BaseException as error:
                errors[name] = error
                if not together.stopping.is_set():
                    on_error(name, error)

    threads = [threading.Thread(target=worker, name=f"posegen-{i}", daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():  # with a timeout, so that Ctrl-C is seen
                thread.join(0.2)
    except KeyboardInterrupt:
        _end(threads, together)
        raise
    failed = {name: errors[name] for name in work if name in errors}
    if len(failed) == 1:
        raise next(iter(failed.values()))
    if failed:
        first = next(iter(failed.values()))
        raise EngineError(
            "; ".join(f"{name}: {what_of(error)}" for name, error in failed.items()),
            where=", ".join(failed),
            next_command=getattr(first, "next_command", None) or "the same command again: what is done is kept",
        ) from first
    return {name: results[name] for name in work}


def _end(threads: Sequence[threading.Thread], together: SideBySide, seconds: float = 30.0) -> None:
    """Stops what is at work, and whatever began just before it was asked to stop."""
    for _ in range(int(seconds / 0.5)):
        together.stop()
        for thread in threads:
            thread.join(0.5 / len(threads))
        if not any(thread.is_alive() for thread in threads):
            return
    logger.warning("some stages did not stop within %.0f s; they end with this process", seconds)


def what_of(error: BaseException) -> str:
    """An error in one line."""
    return error.what if isinstance(error, PosegenError) else f"{type(error).__name__}: {error}"


def at_once(setting: str, asks: Mapping[str, Bundles], nodes: Sequence[Mapping[str, float]]) -> tuple[int, str]:
    """How many arms to run side by side, and why in one line.

    Args:
        setting: "auto", or a number.
        asks: what each arm takes when it takes most.
        nodes: what is free on each.
    """
    sizes = sorted(asks.values(), key=lambda bundles: -sum(total_of(bundles).values()))
    most = describe(total_of(sizes[0]))
    wanted = total_of([bundle for bundles in sizes for bundle in bundles])
    free = describe({name: value for name, value in total_of(nodes).items() if name in wanted})
    if setting == AUTO:
        fits = [n for n in range(1, len(sizes) + 1) if not unplaced([b for ask in sizes[:n] for b in ask], nodes)]
        count = max(fits, default=1)
    else:
        if not setting.isdigit() or int(setting) < 1:
            raise ConfigError(
                f"engine.parallel_arms is {setting!r}", where="engine.parallel_arms", choices=(AUTO, "1", "2", "...")
            )
        count = min(int(setting), len(sizes))
        asked = [bundle for ask in sizes[:count] for bundle in ask]
        if count > 1 and unplaced(asked, nodes):
            raise EngineError(
                f"not enough resources for {count} arms side by side: asked for {describe(total_of(asked))}, "
                f"free is {free} on {len(nodes)} node(s)",
                where="engine.parallel_arms",
                choices=[describe(node) for node in nodes],
                next_command="engine.parallel_arms=auto  # as many as there is room for",
            )
    how = "one after the other" if count == 1 else f"{count} of {len(sizes)} side by side"
    return count, f"arms {how}: each takes at most {most}, free is {free} (engine.parallel_arms={setting})"
