"""Workers in tenths of a second: they are forked from a process that has imported all that workers need.

Each stage of a run needs half a dozen new processes (a controller, trainers, renderers, Ray Data's coordinators), and
each would spend seconds of processor time importing ray, torch and this package. On the machine where a Ray is started,
one process imports them once, before it has any thread; whenever the raylet wants a worker, fork_worker.py hands the
worker's arguments, environment and open files to it, and it forks. On machines of a joined cluster Ray starts workers
itself. What a worker computes does not depend on how it was started.
"""

from __future__ import annotations

import array
import gc
import importlib
import json
import logging
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posegen.engine.fork_worker import LENGTH_BYTES, PLAIN, SOCKET
from posegen.engine.private_ray import around_connecting, draw_id, set_variables, undrawn, workers_started_by
from posegen.machine import keep_freed_memory

logger = logging.getLogger(__name__)

LAUNCHER = Path(__file__).with_name("fork_worker.py")
LOG = "fork_server.log"
ASKED = "POSEGEN_FORK_WORKERS"
NO_CUDA = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
# What trainers, renderers, and Ray's own actors of a stage import. Whatever is missing here is imported by the worker.
WITHOUT_RAY = (
    "torch.optim", "torch.nn.parallel", "torch.distributed", "pandas", "pyarrow.parquet", "pyarrow.dataset",
    "posegen.finetune.loop", "posegen.finetune.rows", "posegen.adversarial.loop", "posegen.arms.rows",
    "posegen.estimator.configured", "posegen.renderer.mesh", "posegen.benchmarks.embedded.stand_ins",
)  # fmt: skip
WITH_RAY = (
    "ray.train.torch",
    "ray.data",
    "ray.train.v2._internal.execution.controller",
    "ray.util.state",
    "posegen.engine.worker",
    "posegen.engine.finetune",
    "posegen.engine.history",
    "posegen.engine.network",
    "posegen.engine.lifeline",
)
# Ray's compiled part reads these when it is imported, and never again: the server is of one job of one raylet
READ_BY_RAY = ("RAY_JOB_ID", "RAY_RAYLET_PID")
WITHOUT_JOB = (None, "", "ffffffff")  # of workers that a raylet starts before it knows of any
PRESTART = "RAY_prestart_worker_first_driver"  # such workers, for which Ray lets a driver wait


@dataclass
class ForkServer:
    """The process, as its owner has it."""

    process: subprocess.Popen[bytes]
    folder: Path

    def problem(self) -> str | None:
        """Why it forks nothing; None while it is there."""
        if self.process.poll() is None:
            return None
        try:
            last = (self.folder / LOG).read_text(errors="replace").strip().splitlines()[-1:]
        except OSError:
            last = []
        return f"it ended with {self.process.returncode}: {''.join(last)}"

    def stop(self) -> None:
        """Ends it; workers that it forked live on until their raylet ends."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:  # still importing
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


_running: ForkServer | None = None


def is_possible() -> bool:
    """Forking after imports is safe on Linux; macOS' own libraries do not stand it."""
    return sys.platform == "linux"


def forks_workers() -> bool:
    """Whether workers of a Ray that is started here are forked: on Linux, unless $POSEGEN_FORK_WORKERS is 0."""
    return is_possible() and os.environ.get(ASKED) != "0"


def listener_in(folder: Path) -> socket.socket:
    """Where raylets ask; they may ask before anybody answers."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(folder / "socket"))
    listener.listen(64)
    return listener


def start_server(listener: socket.socket, folder: Path) -> ForkServer:
    """Starts the process; it answers when it has imported everything."""
    with (folder / LOG).open("wb") as log:
        # One thread of OpenMP, as Ray gives its workers: what a fork reads from the environment, torch has read.
        # A look for GPUs must not start CUDA here, which no fork survives.
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(listener.fileno())], stdin=subprocess.PIPE, stdout=log, stderr=log,
            pass_fds=[listener.fileno()], env={"OMP_NUM_THREADS": "1", **os.environ, **NO_CUDA, **_found_here()},
            start_new_session=True,
        )  # fmt: skip
    return ForkServer(process, folder)


def _found_here() -> dict[str, str]:
    """The path by which the process finds this package as we do."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))}


@contextmanager
def forked_workers(private: Path) -> Iterator[None]:
    """A raylet that is started meanwhile has its workers forked. Ended by `stop_forking`.

    The server starts when the raylet has, and this process connects to it: before, it would take the cores from Ray's
    own processes, which Ray gives half a minute; and Ray lets nobody connect before its first workers are there.
    Workers that are asked for before wait for it.

    Args:
        private: a folder that only this user can enter, with a short path.
    """
    if not forks_workers():
        yield
        return
    stop_forking()
    folder = Path(tempfile.mkdtemp(prefix="fork-", dir=private))
    listener = listener_in(folder)

    def wrapped(inner: Callable[..., Any]) -> Callable[..., Any]:
        def connect(*given: Any, **named: Any) -> Any:
            global _running
            _running = start_server(listener, folder)
            return inner(*given, **named)

        return connect

    before = {name: os.environ.get(name) for name in (SOCKET, PLAIN, PRESTART)}
    try:
        with workers_started_by(LAUNCHER) as plain, around_connecting(wrapped):
            os.environ[SOCKET], os.environ[PLAIN] = str(folder / "socket"), str(plain)
            os.environ.setdefault(PRESTART, "0")
            yield
    except BaseException:
        stop_forking()
        raise
    finally:
        listener.close()
        if _running is None:  # an error, or nothing connected; else the server removes it when it ends
            shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def stop_forking() -> None:
    """Ends the process that forks workers, if there is one."""
    global _running
    if _running is not None:
        _running.stop()
    _running = None


# -- the process itself ------------------------------------------------------------------------------------------------


def serve(listener: socket.socket) -> dict[str, Any] | None:
    """Forks workers until standard input ends, which is when the owner has: in a worker, its request; else None."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel takes ended workers away
    ours: list[str | None] | None = None
    while True:
        ready, _, _ = select.select([listener, sys.stdin.fileno()], [], [])
        if listener not in ready:
            return None
        connection, _ = listener.accept()
        with connection:
            try:
                request, streams = _received(connection)
            except (OSError, ValueError) as error:
                print(f"a request was cut short: {error}", flush=True)
                continue
        theirs = [request["environment"].get(name) for name in READ_BY_RAY]
        if ours is None and theirs[0] not in WITHOUT_JOB:
            ours = theirs
            os.environ.update({name: value for name, value in zip(READ_BY_RAY, ours, strict=True) if value})
            with undrawn():
                _import(WITH_RAY)
            if problem := why_not_to_fork():
                print(f"workers are started by Ray: {problem}", flush=True)
                ours = []
            gc.collect()
            gc.freeze()  # collections of the workers leave these pages alone, which stay shared
        if os.fork() == 0:
            gc.enable()
            listener.close()
            _take_place(request, streams)
            if theirs != ours:
                os.execve(sys.executable, [sys.executable, *request["plain"]], request["environment"])
            _become(request)
            return request
        for stream in streams:
            os.close(stream)


def _import(names: Sequence[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(f"{name} is left to the workers: {error}", flush=True)


def _received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    connection.settimeout(10)
    streams = array.array("i")
    first, ancillary, _, _ = connection.recvmsg(LENGTH_BYTES, socket.CMSG_LEN(3 * streams.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            streams.frombytes(data[: len(data) - len(data) % streams.itemsize])
    if len(first) != LENGTH_BYTES or len(streams) != 3:
        raise ValueError("no length, or not three open files")
    left, parts = int.from_bytes(first, "big"), []
    while left:
        part = connection.recv(min(left, 1 << 16))
        if not part:
            raise ValueError(f"{left} bytes are missing")
        parts.append(part)
        left -= len(part)
    return json.loads(b"".join(parts)), list(streams)


def _take_place(request: dict[str, Any], streams: list[int]) -> None:
    """Gives this child the open files, folder, signals and priority of what the raylet started.

    And a process group of its own, as each of Ray's workers has: a raylet that ends one signals all of its group.
    """
    os.setpgid(0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    with suppress(OSError):  # a lower number than ours may be refused
        os.setpriority(os.PRIO_PROCESS, 0, request["priority"])


def _become(request: dict[str, Any]) -> None:
    """Gives it the environment, arguments and paths of a worker, as if it had been started with them."""
    import random

    import numpy as np

    os.environ.clear()
    os.environ.update(request["environment"])
    set_variables(request["variables"])
    script = request["words"][0]
    named = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = list(dict.fromkeys([str(Path(script).parent), *named, *sys.path[1:]]))
    sys.argv = list(request["words"])
    importlib.invalidate_caches()
    random.seed()
    np.random.seed()  # noqa: NPY002  (others' code may draw from it: not the same numbers in all workers)


def why_not_to_fork() -> str | None:
    """What is wrong with forks of this process as it is now."""
    if lost := threads_a_fork_loses():
        return f"threads that a fork would lose run after the imports: {', '.join(lost)}"
    if not set(drawn_in_fork()).isdisjoint(drawn_in_fork()):
        return "Ray's ids were drawn from while it was imported, so that all forks would draw the same"
    return None


def drawn_in_fork() -> list[bytes]:
    """Ids of Ray's that a fork of this process draws: in its main thread, and in another."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        drawn = [draw_id()]
        thread = threading.Thread(target=lambda: drawn.append(draw_id()))
        thread.start()
        thread.join()
        os.write(writing, b"".join(drawn))
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        found = pipe.read()
    half = len(found) // 2
    return [found[:half], found[half:]]


def threads_a_fork_loses() -> list[str]:
    """Names of this process's threads, less the main one and that of pyarrow's allocator, which heeds forks itself."""
    names = [Path(f"/proc/self/task/{one}/comm").read_text().strip() for one in os.listdir("/proc/self/task")
             if int(one) != os.getpid()]  # fmt: skip
    return [name for name in names if name != "jemalloc_bg_thd"]


def main() -> int:
    keep_freed_memory()  # and so do the forks
    gc.disable()  # what is imported stays: looking through it again and again is a sixth of the time that it takes
    _import(WITHOUT_RAY)
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        folder = Path(listener.getsockname()).parent
        worker = serve(listener)
    if worker is None:  # its owner may have been killed
        shutil.rmtree(folder, ignore_errors=True)
    else:
        runpy.run_path(worker["words"][0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
