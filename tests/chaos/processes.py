"""The processes of a struck run: who is who, and who is left.

This process takes over orphans (Linux: PR_SET_CHILD_SUBREAPER), so that all that a run has started stays below it,
also when the run's own process has been killed.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import psutil

PR_SET_CHILD_SUBREAPER = 36

TRAINER = "ray::RayTrainWorker"
CONTROLLER = "ray::TrainController"
SERVERS = ("raylet", "gcs_server")
RENDERER = "ray::MapWorker(MapBatches(_RenderActor))"


def take_over_orphans() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")
    threading.Thread(target=_bury, name="chaos-bury", daemon=True).start()


def _bury() -> None:
    """Takes note of the ends of Ray's servers that became ours, as init does: until then their workers see them alive.

    Only of these: whoever started the others waits for them.
    """
    while True:
        for one in psutil.Process().children():
            with suppress(psutil.Error, ChildProcessError):
                if one.status() == psutil.STATUS_ZOMBIE and one.name() in SERVERS:
                    os.waitpid(one.pid, os.WNOHANG)
        time.sleep(0.5)


def title(process: psutil.Process) -> str:
    """A process' command line, "" when it has ended."""
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def lives(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def below(root: int | None = None) -> list[psutil.Process]:
    """Living processes below one, below this one by default."""
    with suppress(psutil.Error):
        return [one for one in psutil.Process(root).children(recursive=True) if lives(one)]
    return []


def named(start: str, among: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those of Ray's workers that say they are at this work."""
    return [one for one in among if title(one).startswith(start)]


def program(name: str, among: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that run an executable of this name."""
    return [one for one in among if os.path.basename(title(one).partition(" ")[0]) == name]


def kill(victims: Iterable[psutil.Process]) -> None:
    """SIGKILL: no process can do anything before it ends."""
    for one in victims:
        with suppress(psutil.NoSuchProcess):
            one.kill()


def left_after(before: set[psutil.Process], seconds: float) -> list[str]:
    """Titles of the processes below this one that were not there before and have not ended within some seconds."""
    deadline = time.monotonic() + seconds
    while True:
        left = [one for one in below() if one not in before]
        if not left or time.monotonic() > deadline:
            return [title(one)[:100] for one in left]
        time.sleep(0.5)


def wait_for(happened: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.2)
