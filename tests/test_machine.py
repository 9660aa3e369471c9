"""Shares of a machine: made-up control groups of both versions, and the affinity of this process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from posegen import machine


@pytest.fixture
def host(monkeypatch):
    """A machine with 96 processors, all of which this process may use."""
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(96)), raising=False)


def test_without_limits_it_is_the_machine(host, tmp_path):
    assert machine.cores(tmp_path, tmp_path / "none") == 96
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert machine.memory_bytes(tmp_path, tmp_path / "none") == total


def test_the_affinity_counts(host, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4, 5, 6}, raising=False)
    assert machine.cores(tmp_path, tmp_path / "none") == 3


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("max 100000", 96)]
)
def test_a_container_of_version_2(host, tmp_path, quota, cores):
    (tmp_path / "cpu.max").write_text(quota + "\n")
    (tmp_path / "memory.max").write_text("1073741824\n")
    (tmp_path / "own").write_text("0::/\n")
    assert machine.cores(tmp_path, tmp_path / "own") == cores
    assert machine.memory_bytes(tmp_path, tmp_path / "own") == 2**30


def test_a_job_whose_limit_is_that_of_a_group_above_it(host, tmp_path):
    step = tmp_path / "slurm" / "job_7" / "step_0"
    step.mkdir(parents=True)
    (step / "cpu.max").write_text("max 100000")
    (step / "memory.max").write_text("max")
    (step.parent / "cpu.max").write_text("400000 100000")
    (step.parent / "memory.max").write_text(str(3 * 2**30))
    (tmp_path / "own").write_text("0::/slurm/job_7/step_0\n")
    assert machine.cores(tmp_path, tmp_path / "own") == 4
    assert machine.memory_bytes(tmp_path, tmp_path / "own") == 3 * 2**30


def test_a_container_of_version_1(host, tmp_path):
    for folder, files in {
        "cpu,cpuacct/docker/a": {"cpu.cfs_quota_us": "300000", "cpu.cfs_period_us": "100000"},
        "memory/docker/a": {"memory.limit_in_bytes": str(2**31)},
        "memory": {"memory.limit_in_bytes": "9223372036854771712"},  # none
    }.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (tmp_path / folder / name).write_text(text)
    (tmp_path / "own").write_text("4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n0::/\n")
    assert machine.cores(tmp_path, tmp_path / "own") == 3
    assert machine.memory_bytes(tmp_path, tmp_path / "own") == 2**31


def test_damaged_groups_are_passed_over(host, tmp_path):
    (tmp_path / "cpu.max").write_text("much")
    (tmp_path / "memory.max").write_bytes(b"\x00")
    (tmp_path / "own").write_text("no colons\n0::/../../etc\n")
    assert machine.cores(tmp_path, tmp_path / "own") == 96


FAULTS = """
import resource, sys
import numpy as np
from posegen.machine import keep_freed_memory
told = sys.argv[1] == "kept" and keep_freed_memory()
def once():
    np.ones(64 * 2**20, np.uint8)

once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    once()
print(int(told), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_used_again_without_asking_the_kernel():
    found = {}
    for way in ("left", "kept"):
        words = [sys.executable, "-c", FAULTS, way]
        said = subprocess.run(words, check=True, stdout=subprocess.PIPE, timeout=120).stdout
        found[way] = [int(number) for number in said.split()]
    (_, left), (told, kept) = found["left"], found["kept"]
    assert bool(told) == (platform.libc_ver()[0] == "glibc" and machine.memory_bytes() >= machine.AMPLE_BYTES)
    assert not told or kept < 0.1 * left, found


def test_where_memory_is_short_it_is_given_back(monkeypatch):
    monkeypatch.setattr(machine, "memory_bytes", lambda: 4 * 2**30)
    assert not machine.keep_freed_memory()
