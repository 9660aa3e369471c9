"""Keeps Ray's own words out of a run's lines, unless they are asked for."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any

from posegen.engine.private_ray import around_connecting, raylet_messages_to

logger = logging.getLogger(__name__)

UNASKED = "Unhandled error"  # so Ray begins what it says of a result that failed and that nobody asked for
LEVEL_IS_TOLD = b"Set ray log level from environment variable"  # Ray's C++ part tells that it will be silent


def quieten(verbose: bool) -> None:
    """Ray's own loggers say nothing below a warning unless asked."""
    level = logging.INFO if verbose else logging.ERROR
    for name in ("ray", "ray.train", "ray.tune", "ray._private"):
        logging.getLogger(name).setLevel(level)
    if not verbose:
        logging.getLogger("ray._private.worker").addFilter(_of_what_was_asked_for)
        _log_raylet_messages()


def _of_what_was_asked_for(record: logging.LogRecord) -> bool:
    """Sends what Ray says of results that nobody waits for (its own figures, say) to our log, stack trace and all."""
    if not str(record.msg).startswith(UNASKED):
        return True
    logger.info("%s", record.getMessage())
    return False


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
                with _held_back(LEVEL_IS_TOLD):
                    return inner(*given, **named)
            finally:
                del os.environ[level]

        return connect

    with around_connecting(wrapped if only_of_death and level not in os.environ else None):
        yield


@contextmanager
def _held_back(line: bytes) -> Iterator[None]:
    """Standard error comes when the block has ended, without lines that hold some words."""
    sys.stderr.flush()
    kept = os.dup(2)
    with TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            os.write(2, b"".join(text for text in held if line not in text))


def _log_raylet_messages() -> None:
    """Sends what a raylet says of its workers to our log: Ray prints it in the middle of progress bars."""

    def log(message: dict, **_: Any) -> None:
        logger.info("%s: %s", message.get("pid"), " ".join(message.get("lines", [])))

    raylet_messages_to(log)
