"""The fork server without a cluster: a child has the arguments, environment, folder and streams that were handed."""

import json
import os
import signal
import subprocess
import sys

import pytest

from posegen.engine.fork_server import (
    LAUNCHER,
    LOG,
    forks_workers,
    is_possible,
    listener_in,
    start_server,
)  # fmt: skip
from posegen.engine.fork_worker import PLAIN, SOCKET, request_of

SCRIPT = """
import json, os, random, signal, sys, threading

def ids():
    from ray._raylet import JobID, PlacementGroupID
    found = []
    draw = lambda: found.append(PlacementGroupID.of(JobID.from_int(1)).hex())
    draw()
    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    return found

blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
print(json.dumps({
    "words": sys.argv[1:], "folder": os.getcwd(), "path": sys.path[:2], "parent": os.getppid(),
    "ours": os.environ.get("OURS"), "from_context": os.environ.get("THEIRS"), "job": os.environ.get("RAY_JOB_ID"),
    "asked": os.environ.get("_FORK_SERVER_SOCKET"), "torch": "torch" in sys.modules, "ray": "ray.data" in sys.modules,
    "drawn": random.random(), "blocked": signal.SIGUSR1 in blocked,
    "own_group": os.getpgid(0) == os.getpid(), "ids": ids(),
}), flush=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fork")
    listener = listener_in(folder)
    found = start_server(listener, folder)
    listener.close()
    yield found
    found.stop()
    assert found.process.poll() is not None and not folder.exists()


def launch(server, tmp_path, job="01000000", context=None, words=()):
    """What a raylet does, and what the worker prints."""
    script, plain, place = tmp_path / "worker.py", tmp_path / "plain.py", tmp_path / "place"
    script.write_text(SCRIPT)
    plain.write_text(SCRIPT)
    place.mkdir(exist_ok=True)
    given = {
        **os.environ, "OURS": "1", "RAY_JOB_ID": job, SOCKET: str(server.folder / "socket"), PLAIN: str(plain),
        "PYTHONPATH": "/somewhere",
    }  # fmt: skip
    asked = ["--serialized-runtime-env-context=" + json.dumps(context or {}), "--language=PYTHON"]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # a process that we start inherits it
    try:
        process = subprocess.run(
            [sys.executable, str(LAUNCHER), str(script), *words, *asked], env=given, cwd=place, text=True, check=False,
            stdout=subprocess.PIPE, timeout=300,
        )  # fmt: skip
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    printed = process.stdout  # until the worker, which has the pipe too, has ended
    assert process.returncode == 0
    assert printed, (server.folder / LOG).read_text()
    return json.loads(printed)


def test_a_worker_is_forked_as_it_was_asked_for(server, tmp_path):
    seen = launch(server, tmp_path, context={"env_vars": {"THEIRS": "2"}}, words=["--node-id=7"])
    assert seen["words"] == ["--node-id=7"] and seen["folder"] == str(tmp_path / "place")
    assert (seen["ours"], seen["from_context"], seen["asked"]) == ("1", "2", None)
    assert seen["parent"] == server.process.pid and seen["torch"] and seen["ray"]
    assert seen["path"] == [str(tmp_path), "/somewhere"] and seen["blocked"]
    assert seen["own_group"], "a raylet that ends this worker would end all workers and the server"
    again = launch(server, tmp_path)
    assert again["parent"] == server.process.pid and again["drawn"] != seen["drawn"]
    assert len({*seen["ids"], *again["ids"]}) == 4, "two placement groups of one id are one: both hold the same CPUs"
    other = launch(server, tmp_path, job="02000000")  # Ray has read the first job's id: another's worker starts anew
    assert other["job"] == "02000000" and not other["torch"]


def test_forks_that_would_draw_the_same_ids_are_not_made():
    """In a process of its own: what is drawn here stays drawn."""
    code = "from posegen.engine.fork_server import why_not_to_fork; from posegen.engine.private_ray import draw_id;" \
        "import ray; print(why_not_to_fork()); draw_id(); print(why_not_to_fork())"  # fmt: skip
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert told[0] == "None" and "draw the same" in told[1]


def test_without_its_owner_it_ends_and_leaves_nothing(tmp_path):
    folder = tmp_path / "fork"
    folder.mkdir()
    listener = listener_in(folder)
    lonely = start_server(listener, folder)
    listener.close()
    lonely.process.stdin.close()  # as when the process that started it is killed
    lonely.process.wait(120)
    assert not folder.exists()


def test_what_a_fork_cannot_be_is_left_to_ray(monkeypatch):
    prefix, python = "--serialized-runtime-env-context=", "--language=PYTHON"
    assert request_of(["worker.py", "--a=1", python], "plain.py")["words"] == ["worker.py", "--a=1"]
    for context in ({"command_prefix": ["nice"]}, {"py_executable": "/another/python"}):
        assert request_of(["worker.py", prefix + json.dumps(context), python], "plain.py") is None
    assert request_of(["worker", "--language=JAVA"], "plain.py") is None


def test_a_variable_switches_it_off(monkeypatch):
    monkeypatch.delenv("POSEGEN_FORK_WORKERS", raising=False)
    assert forks_workers() == is_possible()
    monkeypatch.setenv("POSEGEN_FORK_WORKERS", "0")
    assert not forks_workers()
