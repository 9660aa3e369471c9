"""A whole run on one core and 4 GB, as a small container or virtual machine has them: a control group of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.hosts

ROOT = Path(__file__).parents[2]
GROUPS = Path("/sys/fs/cgroup")
GIB = 2**30


class Limits:
    """Control groups of one processor's time and some memory, of version 1 or 2."""

    def __init__(self, name: str, memory: int) -> None:
        self.second = (GROUPS / "cgroup.controllers").is_file()
        self.memory = GROUPS / name if self.second else GROUPS / "memory" / name
        self.folders = [self.memory] if self.second else [self.memory, GROUPS / "cpu" / name]
        if self.second:
            (GROUPS / "cgroup.subtree_control").write_text("+cpu +memory")
        for folder in self.folders:
            folder.mkdir()
        if self.second:
            (self.memory / "cpu.max").write_text("100000 100000")
            (self.memory / "memory.max").write_text(str(memory))
        else:
            (self.folders[1] / "cpu.cfs_quota_us").write_text("100000")
            (self.memory / "memory.limit_in_bytes").write_text(str(memory))

    def enter(self) -> None:
        """This process and all that it starts."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(os.getpid()))

    def peak_bytes(self) -> int:
        return int((self.memory / ("memory.peak" if self.second else "memory.max_usage_in_bytes")).read_text())

    def killed(self) -> int:
        """Processes that the kernel ended for want of memory."""
        lines = (self.memory / ("memory.events" if self.second else "memory.oom_control")).read_text().splitlines()
        return int(dict(line.split() for line in lines)["oom_kill"])

    def processes(self) -> list[int]:
        return [int(line) for folder in self.folders for line in (folder / "cgroup.procs").read_text().split()]


@contextmanager
def limited(memory: int) -> Iterator[Limits]:
    if os.geteuid() != 0 or not os.access(GROUPS, os.W_OK):
        pytest.fail("the tests marked 'hosts' need root and control groups; leave them out with -m 'not hosts'")
    limits = Limits(f"posegen-{os.getpid()}", memory)
    try:
        yield limits
    finally:
        deadline = time.monotonic() + 30
        while limits.processes() and time.monotonic() < deadline:
            time.sleep(0.2)
        for folder in limits.folders:
            folder.rmdir()


def test_a_whole_run_on_one_core_and_four_gigabytes(tmp_path, assets):
    words = ["run", "experiment=smoke", f"run.outputs={tmp_path}", "run.name=small"]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with limited(4 * GIB) as limits:
        done = subprocess.run(
            [sys.executable, "-m", "posegen.cli", *words], preexec_fn=limits.enter, capture_output=True, text=True,
            env=variables | {"PYTHONPATH": str(ROOT / "platform")}, timeout=1500, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert limits.killed() == 0, said
        assert limits.peak_bytes() < 4 * GIB
        assert limits.processes() == []
    summary = json.loads((tmp_path / "small" / "summary.json").read_text())
    assert {"before", "random", "posegen"} <= set(summary["arms"])
    assert (tmp_path / "small" / "report.html").is_file()
