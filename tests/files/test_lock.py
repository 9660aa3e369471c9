"""One process in a run directory: the second is told who holds it, and a killed one leaves it free."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posegen.files import lock
from posegen.files.lock import LOCK_FILE, BusyError, check_free, locked

HOLD = """
import sys, time
from posegen.files.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_is_told_at_once_who_holds_it_and_a_killed_holder_leaves_it_free(tmp_path, holder):
    began = time.monotonic()
    with pytest.raises(BusyError) as told, locked(tmp_path):
        pass
    assert time.monotonic() - began < 1
    assert f"process {holder.pid} on {socket.gethostname()}, since 20" in str(told.value)
    with pytest.raises(BusyError):
        check_free(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    began = time.monotonic()
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert time.monotonic() - began < 1


def test_a_trial_waits_for_the_holder(tmp_path, holder):
    os.kill(holder.pid, signal.SIGSTOP)  # stopped, not dead: it still holds the lock
    with pytest.raises(BusyError), locked(tmp_path):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    with locked(tmp_path, wait=True):
        assert holder.wait() == -signal.SIGKILL


def test_a_folder_left_in_order_is_free_without_looking(tmp_path):
    for _ in range(2):
        with locked(tmp_path, say=pytest.fail):
            pass
    assert (tmp_path / LOCK_FILE).read_bytes() == b""
    check_free(tmp_path)
    check_free(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_an_error_inside_frees_the_folder(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lock, "BEAT_S", 0.05)
    monkeypatch.setattr(lock, "WATCH_S", 0.6)
    monkeypatch.setattr(lock, "POLL_S", 0.02)


def test_another_machines_record_that_stands_still_is_of_a_dead_process(tmp_path, quick):
    (tmp_path / LOCK_FILE).write_text(json.dumps({"host": "elsewhere", "pid": 7, "since": "noon", "beat": 3}))
    told: list[str] = []
    with locked(tmp_path, say=told.append):
        pass
    assert "process 7 on elsewhere, since noon" in told[0]


def test_where_the_file_system_has_no_locks_signs_of_life_decide(tmp_path, quick, monkeypatch):
    def none(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    told: list[str] = []
    with locked(tmp_path, say=told.append):
        with pytest.raises(BusyError, match=f"process {os.getpid()}"), locked(tmp_path, say=told.append):
            pass
    assert "has no locks" in told[0]
    with locked(tmp_path):
        pass


def test_a_damaged_lock_file_is_no_error(tmp_path):
    (tmp_path / LOCK_FILE).write_bytes(b"\xff[[[" * 50)
    with locked(tmp_path):
        pass
