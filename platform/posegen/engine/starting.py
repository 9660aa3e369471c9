"""Starting a Ray on this machine, also a busy one.

Ray gives up on its own processes after 30 s, by an exception of no class of its own, and leaves running what it has
started until this process ends.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Set
from pathlib import Path
from typing import Any

from posegen.engine.fork_server import forked_workers
from posegen.engine.quiet import core_speaks
from posegen.errors import EngineError

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
ATTEMPTS = 3
TOO_SLOW = ("timed out", "the error message from the dashboard")  # in the words of Ray's exceptions


def start(*, quiet: bool, dashboard: bool, **settings: Any) -> None:
    """ray.init of a new cluster. Tried again where it was too slow, for much of what it reads is in memory then.

    Args:
        quiet: Ray's C++ part of this process logs what is fatal alone.
        dashboard: serves it, on a free port of the loopback device.
        settings: further ones of ray.init.
    """
    import psutil
    import ray

    variables = settings["runtime_env"]["env_vars"]
    tried: set[int] = set()
    for attempt in range(1, ATTEMPTS + 1):
        port = _free_port(tried)
        tried.add(port)
        if dashboard:
            # Ray's processes look for the State API at whichever cluster was started last on this machine, and wait
            # 12 s at the end of each training run if that is another one.
            variables["RAY_API_SERVER_ADDRESS"] = f"http://{LOOPBACK}:{port}"
        before = set(psutil.Process().children(recursive=True))
        try:
            with core_speaks(only_of_death=quiet), forked_workers(Path(settings["_temp_dir"]).parent):
                ray.init(
                    address="local", include_dashboard=dashboard, dashboard_host=LOOPBACK, dashboard_port=port,
                    **settings,
                )  # fmt: skip
            return
        except Exception as error:
            ray.shutdown()
            _end(set(psutil.Process().children(recursive=True)) - before)
            # The dashboard's last lines are what Ray raises where it has waited for it in vain.
            slow = isinstance(error, TimeoutError) or any(said in str(error) for said in TOO_SLOW)
            if attempt < ATTEMPTS and (slow or "already occupied" in str(error)):
                why = "did not start in time on this busy machine" if slow else "found its port taken"
                logger.warning("Ray %s: trying again (%d of %d)", why, attempt + 1, ATTEMPTS)
                continue
            raise EngineError(
                f"Ray's processes did not start in time, {ATTEMPTS} times: this machine is too busy, or has too little "
                "memory"
                if slow
                else f"Ray could not be started on this machine: {first_line(error)}",
                where=f"{settings['_temp_dir']}/session_latest/logs",
                next_command="the same again when the machine is less busy" if slow else "posegen doctor",
            ) from error


def first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _free_port(tried: Set[int]) -> int:
    """A port that is free now and was not tried before: what is left of an earlier attempt may still want its own."""
    while True:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
        if port not in tried:
            return port


def _end(half_started: set[Any]) -> None:
    """Ends what an attempt has left: it would hold ports and memory that the next one needs."""
    import psutil

    for process in half_started:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(half_started, timeout=10)
