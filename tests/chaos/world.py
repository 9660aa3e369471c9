"""The small experiment, and where it runs: a Ray of its own, two raylets, a MLflow server, a small disk."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
import types
from contextlib import suppress
from pathlib import Path

import psutil

from .processes import below, kill, lives, wait_for

ROOT = Path(__file__).resolve().parents[2]
NAME = "struck"  # the run's
SMALL = (
    "run", "experiment=smoke", "dataset.arms=[posegen]", "dataset.images=48", "dataset.source_images=48",
    "adversarial.steps=6", "finetune.steps=6", "evaluation.images=2", "evaluation.suite=[ski-like]",
    "engine.object_store_mb=100", f"run.name={NAME}",
)  # fmt: skip
CLONE_NEWNS, DISK_MB = 0x00020000, 64


def variables(count: Path | None = None, **more: str) -> dict[str, str]:
    """The environment of a struck run: this tree's code, one thread, nobody else's cluster or store."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "POSEGEN_"))}
    kept |= {name: os.environ[name] for name in ("POSEGEN_CACHE",) if name in os.environ}
    paths = [str(ROOT / "platform"), *([str(Path(__file__).parent / "counting")] if count else [])]
    kept |= {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return kept | ({"POSEGEN_CHAOS_COUNT": str(count)} if count else {}) | more


class Command:
    """`posegen run` as a process of its own; what it says is kept with the time at which it said it."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "posegen.cli", *words], env=environment, text=True, cwd=ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.lines: list[tuple[float, str]] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append((time.monotonic() - self.began, line.rstrip("\n")))

    def said(self) -> str:
        return "\n".join(line for _, line in self.lines)

    def begun(self, stage: str) -> bool:
        """Whether a stage has begun, or was done before."""
        return any(line in (f"{stage} ...",) or line.startswith(f"{stage} ") for _, line in list(self.lines))

    def at_work(self) -> bool:
        return self.process.poll() is None

    def ended(self, seconds: float) -> int | None:
        """The exit status; None, and the process is killed, where it takes too long."""
        try:
            status: int | None = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            status = None
        self.reader.join(timeout=10)
        return status

    def stages(self) -> dict[str, tuple[float, float]]:
        """When each stage began and ended (s since the start)."""
        began = {line[: -len(" ...")]: at for at, line in self.lines if line.endswith(" ...")}
        ends = {line.partition("  ")[0]: at for at, line in self.lines if " done in " in line}
        return {stage: (at, ends[stage]) for stage, at in began.items() if stage in ends}


class World:
    """One Ray for the run alone, on this machine's disk; the others are kinds of it.

    Args:
        folder: for all that the run writes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs = folder / "outputs"
        self.count = folder / "count"

    def __enter__(self) -> World:
        self.folder.mkdir(parents=True)
        self.outputs.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends what the world itself has started."""

    @property
    def run(self) -> Path:
        return self.outputs / NAME

    def words(self) -> list[str]:
        return [*SMALL, f"run.outputs={self.outputs}"]

    def environment(self) -> dict[str, str]:
        return variables(self.count)

    def start(self) -> Command:
        return Command(self.words(), self.environment())

    def heal(self) -> None:
        """What an operator does before the same command is typed again."""

    def of_ray(self, command: Command) -> list[psutil.Process]:
        """The processes of the run's cluster."""
        return below(command.process.pid)


class TwoRaylets(World):
    """A cluster of two raylets, which stays when a run ends."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.state = Path(f"/tmp/posegen-chaos-{os.getpid()}-{folder.name}")  # short: a socket's path has 107 bytes
        self.script = ROOT / "cluster" / "local" / "cluster.py"
        self.more: list[subprocess.Popen] = []  # nodes that were brought later

    def __enter__(self) -> TwoRaylets:
        super().__enter__()
        self._start()
        return self

    def _start(self) -> None:
        self.base = _free_base()
        ports = ["--port", str(self.base), "--dashboard-port", str(self.base + 1), "--worker-ports",
                 str(self.base + 10)]  # fmt: skip
        words = ["start", "--state", str(self.state), "--nodes", "2", "--cpus", "2", "--object-store-mb", "100"]
        self._cluster(*words, "--timeout", "600", *ports)

    def _cluster(self, *words: str) -> None:
        done = subprocess.run(
            [sys.executable, str(self.script), *words], env=variables(self.count), capture_output=True, text=True,
            check=False, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def words(self) -> list[str]:
        share = ["engine.cpus_per_trainer=1", "engine.cpus_per_renderer=0.5"]
        return [*super().words(), f"engine.address=127.0.0.1:{self.base}", *share]

    def environment(self) -> dict[str, str]:
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.state / "auth_token")}
        return super().environment() | own | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

    def node(self, number: int) -> list[psutil.Process]:
        """All processes of a node, 0 is the head."""
        rows = json.loads((self.state / "processes.json").read_text())
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(rows[number]["pid"])
            return [one for one in [*root.children(recursive=True), root] if lives(one)]
        return []

    def of_ray(self, command: Command) -> list[psutil.Process]:
        return [*self.node(0), *self.node(1)]

    def heal(self) -> None:
        """The whole cluster again, as nothing is left of one without its head."""
        if not self.node(0):
            self._stop()
            self._start()

    def another(self) -> None:
        """A new second node, as an operator or an autoscaler would bring it."""
        given = types.SimpleNamespace(
            worker_ports=self.base + 10, cpus=2, gpus=0, object_store_mb=100, state=self.state, resources="",
            port=self.base, dashboard_port=self.base + 1,
        )  # fmt: skip
        with open(self.state / "another.log", "w") as log:
            self.more.append(
                subprocess.Popen(
                    _module(self.script).ray_start(given, 1), env=self.environment(), stdout=log, stderr=log,
                    stdin=subprocess.DEVNULL, start_new_session=True,
                )
            )  # fmt: skip

    def _stop(self) -> None:
        kill([one for root in self.more for one in [*below(root.pid), psutil.Process(root.pid)]])
        for root in self.more:
            root.wait()
        self.more.clear()
        self._cluster("stop", "--state", str(self.state))

    def __exit__(self, *_: object) -> None:
        self._stop()
        shutil.rmtree(self.state, ignore_errors=True)


class Tracked(World):
    """Tracked by a MLflow server, as a team has one."""

    def __enter__(self) -> Tracked:
        super().__enter__()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.serve()
        return self

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self) -> None:
        line = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.folder}/server.db",
            "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        with open(self.folder / "server.log", "a") as log:
            self.server = subprocess.Popen(
                line, env=variables(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        wait_for(self._answers, 600, "the MLflow server")

    def _answers(self) -> bool:
        assert self.server.poll() is None, (self.folder / "server.log").read_text()[-2000:]
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                return False
            with suppress(OSError):
                probe.settimeout(30)
                probe.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                return b" 200 " in probe.recv(100)
        return False

    def family(self) -> list[psutil.Process]:
        return [*below(self.server.pid), psutil.Process(self.server.pid)]

    def words(self) -> list[str]:
        return [*super().words(), f"tracking.uri={self.uri}"]

    def heal(self) -> None:
        if self.server.poll() is not None:
            self.serve()

    def __exit__(self, *_: object) -> None:
        if self.server.poll() is None:
            kill(self.family())
        self.server.wait()


class SmallDisk(World):
    """Results go to a disk of some megabytes, which this process alone and those below it see."""

    def __enter__(self) -> SmallDisk:
        super().__enter__()
        own_mounts()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "posegen", str(self.outputs)], check=True)
        return self

    def fill(self) -> None:
        """Another program takes all that is left."""
        with open(self.outputs / "filler", "ab") as file, suppress(OSError):
            while True:
                file.write(bytes(2**16))
                file.flush()

    def heal(self) -> None:
        (self.outputs / "filler").unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.outputs)], check=False, capture_output=True)


def own_mounts() -> None:
    """From now on this process mounts for itself alone; OSError without the right to (root)."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare: mounting a small disk needs root")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def _module(script: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("local_cluster", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _free_base() -> int:
    """First of 500 ports below the range that the system hands out."""
    for _ in range(50):
        base = random.SystemRandom().randrange(22000, 31000, 500)
        with suppress(OSError):
            for offset in (0, 1, 10, 210):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", base + offset))
            return base
    raise AssertionError("no free ports")
