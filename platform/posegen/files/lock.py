"""One process at a time in a run directory, and words for the second one: who holds it, where, since when.

The operating system's lock (flock) goes when its process ends, however it ends. Not every file system carries it from
one machine to another, and some have none: so the holder also counts on in the lock file every few seconds. Whoever
finds a count of another machine (or no working flock) watches it for a while: a count that moves is a process that
lives, one that stands still is of a process that was killed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from posegen.errors import PosegenError
from posegen.files.atomic import writing

log = logging.getLogger(__name__)

LOCK_FILE = ".lock"
BEAT_S = 5.0
WATCH_S = 3.2 * BEAT_S  # without a sign of life
POLL_S = 0.25
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY, errno.EIO)


class BusyError(PosegenError):
    """Another process works in the folder."""


@contextmanager
def locked(
    folder: Path | str,
    *,
    wait: bool = False,
    say: Callable[[str], None] = log.warning,
    what: str = "run directory",
    next_command: str = "wait for it, or choose another run.name",
) -> Iterator[None]:
    """Holds a folder. BusyError says at once who holds it; with `wait` it is waited for instead.

    Args:
        folder: made if it is not there; the lock is its file `.lock`.
        say: is given a line where looking at another machine's process takes some seconds.
    """
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while True:
            holder = _take(descriptor, folder, say)
            if holder is None:
                break
            if not wait:
                raise BusyError(f"another process works in this {what}: {_told(holder)}", where=folder,
                                next_command=next_command)  # fmt: skip
            time.sleep(POLL_S)
        done = threading.Event()
        record = {"host": socket.gethostname(), "pid": os.getpid(), "since": _now(), "beat": 0}
        _write(descriptor, record)
        beating = threading.Thread(target=_beat, args=(descriptor, record, done), name="posegen-lock", daemon=True)
        beating.start()
        try:
            yield
        finally:
            done.set()
            beating.join()
            _write(descriptor, None)
    finally:
        os.close(descriptor)


def check_free(folder: Path | str, say: Callable[[str], None] = log.warning) -> None:
    """BusyError where another process holds the folder now; nothing is made where there is no lock file."""
    if (Path(folder) / LOCK_FILE).is_file():
        with locked(folder, say=say):
            return


def holder(folder: Path | str) -> dict[str, Any] | None:
    """What is known of the process that works in a folder now; None where none does. Looks, and changes nothing."""
    file = Path(folder) / LOCK_FILE
    record = _read(Path(folder))
    if record is None:
        return None
    try:
        with open(file, "rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
            age_s = abs(time.time() - os.fstat(opened.fileno()).st_mtime)  # a clock may be set back
    except BlockingIOError:
        return record
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            return None
        age_s = abs(time.time() - file.stat().st_mtime)
    # Nobody holds it here: a process of this machine is gone, one of another may hold it where locks do not travel.
    return record if record.get("host") != socket.gethostname() and age_s < WATCH_S else None


def _take(descriptor: int, folder: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Takes the lock and returns None, or what is known of who holds it."""
    has_locks = True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(folder) or {}
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        has_locks = False
        say(f"the file system of {folder} has no locks; two runs in one folder are seen by their signs of life alone")
    last = _read(folder)
    if last is None or (has_locks and last.get("host") == socket.gethostname()):
        return None
    say(f"{folder} was last used by {_told(last)}; looking for {WATCH_S:.0f} s whether that process lives")
    deadline = time.monotonic() + WATCH_S
    while time.monotonic() < deadline:
        time.sleep(POLL_S)
        seen = _read(folder)
        if seen is None:
            return None
        if seen != last:
            if has_locks:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            return seen
    return None


def _read(folder: Path) -> dict[str, Any] | None:
    """What the last holder wrote; None where it left in order, or nothing that can be read. Opened anew each time:
    that is what makes a network file system look."""
    try:
        with open(folder / LOCK_FILE, "rb") as file:
            record = json.loads(file.read(4096) or b"null")
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _write(descriptor: int, record: dict[str, Any] | None) -> None:
    data = b"" if record is None else json.dumps(record).encode()
    try:
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
        os.fsync(descriptor)
    except OSError as error:  # a full disk must not end a run that is at work
        log.warning("the lock file could not be written: %s", error.strerror)


def _beat(descriptor: int, record: dict[str, Any], done: threading.Event) -> None:
    while not done.wait(BEAT_S):
        record["beat"] += 1
        _write(descriptor, record)


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z")


def _told(holder: dict[str, Any]) -> str:
    if not holder:
        return "it has not said which"
    return f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"
