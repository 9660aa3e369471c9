"""Two raylets on this machine, started and stopped by cluster/local, and jobs sent to them with their token."""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import runpy
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from posegen.engine import jobs
from posegen.errors import EngineError

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "cluster" / "local" / "cluster.py"

JOB = """
import os, sys
import ray
import probe_of_posegen

print("arguments:", sys.argv[1:])
print("tracking:", os.environ.get("MLFLOW_TRACKING_URI"), "secret:", os.environ.get("MLFLOW_TRACKING_PASSWORD"))
ray.init()
print("nodes:", len(ray.nodes()), "answer:", ray.get(ray.remote(probe_of_posegen.answer).remote()))
sys.exit(3 if "seed=13" in sys.argv else 0)
"""


@dataclass(frozen=True)
class Local:
    state: Path
    url: str

    @property
    def token(self) -> Path:
        return self.state / "auth_token"


def free_base() -> int:
    """First of 500 ports below the range that the system hands out."""
    for _ in range(50):
        base = random.randrange(22000, 31000, 500)
        try:
            for offset in (0, 1, 10, 210):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        return base
    raise AssertionError("no free ports")


def script(*words: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | variables
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    state = Path(f"/tmp/posegen-test-{os.getpid()}")  # short: a socket's path has at most 107 characters
    base = free_base()
    ports = ["--port", str(base), "--dashboard-port", str(base + 1), "--worker-ports", str(base + 10)]
    started = script("start", "--state", str(state), "--nodes", "2", "--object-store-mb", "100", *ports)
    assert started.returncode == 0, started.stderr
    assert "2 nodes are up" in started.stdout
    yield Local(state, f"http://127.0.0.1:{base + 1}")
    stopped = script("stop", "--state", str(state))
    assert stopped.stdout.startswith("stopped ")
    import shutil

    shutil.rmtree(state, ignore_errors=True)


@pytest.fixture
def environment(local, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("RAY_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(local.token))
    return monkeypatch


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for folder in ("jobs", "platform", "outputs"):
        (root / folder).mkdir()
    (root / "jobs" / "experiment.py").write_text(JOB)
    (root / "platform" / "probe_of_posegen.py").write_text("def answer():\n    return 42\n")
    (root / "outputs" / "heavy.bin").write_bytes(b"0" * 1000)
    return root


def family(local: Local) -> list[psutil.Process]:
    roots = [psutil.Process(row["pid"]) for row in json.loads((local.state / "processes.json").read_text())]
    return [process for root in roots for process in [root, *root.children(recursive=True)]]


def test_every_socket_is_on_loopback(local):
    listening = []
    for process in family(local):
        try:
            listening += [c.laddr.ip for c in process.net_connections(kind="tcp") if c.status == psutil.CONN_LISTEN]
        except psutil.NoSuchProcess:
            continue
    assert len(listening) > 5
    assert set(listening) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_the_token_is_private_and_asked_for(local):
    assert stat.S_IMODE(local.token.stat().st_mode) == 0o600
    assert stat.S_IMODE(local.state.stat().st_mode) == 0o700
    for headers, status in (({}, 401), ({"Authorization": f"Bearer {'0' * 64}"}, 403)):
        for path in ("/api/version", "/api/jobs/", "/nodes?view=summary"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(urllib.request.Request(local.url + path, headers=headers), timeout=10)
            assert refused.value.code == status


def test_a_job_runs_and_its_log_is_streamed(local, environment, tree):
    environment.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    environment.setenv("MLFLOW_TRACKING_PASSWORD", "do-not-pass")
    environment.setenv("RAY_ADDRESS", "192.0.2.1:1")  # must not override what was asked for
    lines: list[str] = []
    job = jobs.submit("run", ["a=1", "b=[x, 'y z']"], local.url, tree, {"MORE": "1"}, echo=lines.append)
    assert job.status == "SUCCEEDED"
    text = "\n".join(lines)
    assert """arguments: ['a=1', "b=[x, 'y z']"]""" in text
    assert "tracking: http://mlflow.example:5000 secret: None" in text
    assert "nodes: 2 answer: 42" in text
    assert "sending 2 files" in text  # outputs stay at home
    assert f"stop it with: posegen submit --stop {job.id} --address {local.url}" in text
    assert text.count("arguments:") == 1


def test_a_failing_job_is_status_one_and_plain_ray_job_submit_works(local, environment, tree, capsys):
    assert jobs.main(["run", "seed=13", "--address", local.url, "--working-dir", str(tree)]) == 1
    said = capsys.readouterr().out
    assert "FAILED: Job entrypoint command failed with exit code 3" in said

    variables = dict(os.environ) | {"RAY_AUTH_MODE": "token"}
    line = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--address", local.url, "--working-dir", "."]
    line += ["--runtime-env-json", '{"env_vars": {"PYTHONPATH": "platform"}}', "--"]
    line += ["python", "jobs/experiment.py", "k=v"]
    plain = subprocess.run(line, cwd=tree, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert plain.returncode == 0, plain.stdout + plain.stderr
    assert "arguments: ['k=v']" in plain.stdout


def test_a_job_can_be_left_and_stopped(local, environment, tree):
    (tree / "jobs" / "wait.py").write_text("import time\ntime.sleep(300)\n")
    job = jobs.submit("wait", [], local.url, tree, follow=False)
    assert job.status in ("PENDING", "RUNNING")
    assert jobs.list_jobs(local.url)[0]["id"] == job.id
    assert jobs.stop_job(job.id, local.url).status == "STOPPED"
    assert {one["id"]: one["status"] for one in jobs.list_jobs(local.url)}[job.id] == "STOPPED"
    with pytest.raises(EngineError, match="no job is called 'raysubmit_none'"):
        jobs.follow_job("raysubmit_none", local.url)


# Ctrl-C must reach it also where the tests themselves run in the background of a shell.
CONSOLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from posegen.cli import main
sys.exit(main())
"""


def posegen(*words: str, cwd: Path = ROOT) -> subprocess.Popen:
    """The console script's process."""
    variables = dict(os.environ) | {"PYTHONPATH": str(ROOT / "platform"), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", CONSOLE, *words], cwd=cwd, env=variables, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip


def interrupted_at(process: subprocess.Popen, mark: str) -> str:
    """Presses Ctrl-C when the process says `mark`; all that it said."""
    said = ""
    for line in process.stdout or ():
        said += line
        if mark in line:
            process.send_signal(signal.SIGINT)
            break
    said += process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    return said


def told(*words: str) -> tuple[int, str]:
    process = posegen(*words)
    said = process.communicate(timeout=300)[0]
    return process.returncode, said


def test_ctrl_c_leaves_the_job_and_says_how_to_stop_it(local, environment, tree):
    (tree / "jobs" / "hold.py").write_text("import time\nprint('holding', flush=True)\ntime.sleep(300)\n")
    said = interrupted_at(posegen("submit", "hold", "--address", local.url, cwd=tree), "holding")
    job = re.search(r"job (raysubmit_\w+)", said).group(1)
    stop = f"submit --stop {job} --address {local.url}"
    assert said.rstrip().endswith(f"the job goes on. Stop it with: posegen {stop}")
    status, answer = told("submit", "--status", job, "--address", local.url)
    assert (status, answer.splitlines()[0]) == (0, f"job {job}: RUNNING: Job is currently running.")
    assert told(*stop.split()) == (0, f"job {job}: STOPPED\n")
    assert told("submit", "--status", job, "--address", local.url)[0] == 1


@pytest.mark.slow
def test_an_experiment_is_submitted_left_followed_and_nothing_secret_is_to_be_seen(
    local, environment, tmp_path, assets
):
    environment.setenv("AWS_SECRET_ACCESS_KEY", "never-pass-this")
    environment.setenv("MLFLOW_TRACKING_PASSWORD", "nor-this")
    words = [
        "run", "experiment=smoke", "dataset.arms=[random]", "evaluation.images=4", "evaluation.suite=[ski-like]",
        f"run.outputs={tmp_path}", "engine.address=auto", "engine.cpus_per_trainer=0.5", "engine.cpus_per_renderer=0.5",
    ]  # fmt: skip
    said = interrupted_at(posegen("submit", *words, "--address", local.url), "source rows ...")
    job = re.search(r"job (raysubmit_\w+)", said).group(1)
    status, log = told("submit", "--follow", job, "--address", local.url)
    assert status == 0, log
    assert "(joined): 2 node(s)" in log and "MPJPE (mm)" in log and f"job {job}: SUCCEEDED" in log
    assert json.loads((tmp_path / "latest" / "summary.json").read_text())["arms"] == ["before", "random"]
    headers = {"Authorization": f"Bearer {local.token.read_text()}"}
    shown = ""
    for path in ("/api/jobs/", *(f"/api/v0/{kind}?detail=true" for kind in ("actors", "tasks", "workers"))):
        with urllib.request.urlopen(urllib.request.Request(local.url + path, headers=headers), timeout=30) as answer:
            shown += answer.read().decode()
    assert job in shown and "RAY_TRAIN_" in shown  # variables are shown, but not these:
    for secret in ("never-pass-this", "nor-this", local.token.read_text()):
        assert secret not in shown


def test_a_wrong_or_missing_token_is_said(local, environment, tree):
    environment.setenv("RAY_AUTH_TOKEN", "0" * 64)
    with pytest.raises(EngineError, match=r"refused the token \(HTTP 403\)"):
        jobs.submit("run", [], local.url, tree)
    environment.delenv("RAY_AUTH_TOKEN")
    environment.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(EngineError, match=r"needs a token and none was sent \(HTTP 401\)"):
        jobs.submit("run", [], local.url, tree)


def test_a_second_start_is_refused(local):
    again = script("start", "--state", str(local.state))
    assert again.returncode == 1
    assert "is running; stop it with" in again.stderr


def test_a_process_that_ends_while_the_cluster_is_stopped_is_no_error(tmp_path, monkeypatch, capsys):
    """Raylets end their workers themselves: any process may be gone between two looks at it."""
    cluster = runpy.run_path(str(SCRIPT))
    started = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(2)]
    cluster["remember"](tmp_path, started)
    gone = started[0]
    wait_procs = psutil.wait_procs

    def after_it_was_seen_alive(processes, timeout):
        gone.kill()
        gone.wait()
        ended, _ = wait_procs(processes, timeout=timeout)
        return ended, list(processes)

    monkeypatch.setattr(psutil, "wait_procs", after_it_was_seen_alive)
    cluster["stop"](argparse.Namespace(state=tmp_path))
    assert capsys.readouterr().out == "stopped 2 processes\n"
    for process in started:
        process.wait(5)
    assert not (tmp_path / "processes.json").exists()
