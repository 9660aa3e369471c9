"""Keeps Ray's own words out of a run's lines, unless they are asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from posegen.engine.private_ray import around_connecting, raylet_messages_to

logger = logging.getLogger(__name__)


def quieten(verbose: bool) -> None:
    """Ray's own loggers say nothing below a warning unless asked."""
    level = logging.INFO if verbose else logging.ERROR
    for name in ("ray", "ray.train", "ray.tune", "ray._private"):
        logging.getLogger(name).setLevel(level)
    if not verbose:
        _log_raylet_messages()


@contextmanager
def core_speaks(only_of_death: bool) -> Iterator[None]:
    """Keeps what Ray's C++ part logs of this process from standard error, in the middle of our own lines.

    It is told once, when the process connects: by then the node's own processes, which write to files, have started.
    """
    level = "RAY_BACKEND_LOG_LEVEL"

    def wrapped(inner: Callable[..., Any]) -> Callable[..., Any]:
        def connect(*given: Any, **named: Any) -> Any:
            os.environ[level] = "fatal"
            try:
                return inner(*given, **named)
            finally:
                del os.environ[level]

        return connect

    with around_connecting(wrapped if only_of_death and level not in os.environ else None):
        yield


def _log_raylet_messages() -> None:
    """Sends what a raylet says of its workers to our log: Ray prints it in the middle of progress bars."""

    def log(message: dict, **_: Any) -> None:
        logger.info("%s: %s", message.get("pid"), " ".join(message.get("lines", [])))

    raylet_messages_to(log)
