"""What share of the machine this process may use: a container, a Slurm job or `taskset` gives less than there is.

Counts of processors follow the process's affinity and the CPU quota of its control groups; memory follows their limits.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of mallopt, as in glibc's malloc.h
AMPLE_BYTES = 8 * 2**30  # of memory: then a process may keep what it frees
_NO_LIMIT = 2**60  # cgroup v1 writes about this much where there is none


def cores(groups: Path = CGROUPS, own: Path = OWN_CGROUP) -> int:
    """Processors this process may use, at least one. A quota of 1.5 counts as 2: one alone would leave half unused.

    Args:
        groups: where the control groups are mounted.
        own: which of them this process is in.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [float(usable), *_quotas(groups, own)]
    return max(1, int(-(-min(quotas) // 1)))


def memory_bytes(groups: Path = CGROUPS, own: Path = OWN_CGROUP) -> int:
    """Memory this process may use: the machine's, or the smallest limit of its control groups."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _folders(groups, own, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _number(folder / name)
            if limit is not None and 0 < limit < _NO_LIMIT:
                limits.append(limit)
    return min(limits)


def processor() -> str:
    """The processor's name, as figures of time are told with."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def keep_freed_memory() -> bool:
    """This process keeps what it frees; whether the C library was told so (glibc can be).

    Left to itself, glibc asks the kernel for each large block and gives it back: half of a renderer's processor time
    then goes into pages that are cleared for it anew (tests/speed/memory.py). The price is a peak that is a fifth to a
    half higher, so where there is little memory all stays as it is.
    """
    if memory_bytes() < AMPLE_BYTES:
        return False
    try:
        told = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 * 2**20))
    return all([told(name, value) == 1 for name, value in settings])


def _quotas(groups: Path, own: Path) -> Iterator[float]:
    for folder in _folders(groups, own, "cpu"):
        try:
            quota, period = (folder / "cpu.max").read_text().split()  # version 2: "max 100000" or "150000 100000"
            if quota != "max" and int(period) > 0:
                yield int(quota) / int(period)
        except (OSError, ValueError):
            pass
        limit, every = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")  # version 1
        if limit and every and limit > 0 and every > 0:
            yield limit / every


def _folders(groups: Path, own: Path, controller: str) -> Iterator[Path]:
    """The process's control group and all above it. In a container its own is mounted at the root."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    seen = set()
    for line in [*lines, "0::/"]:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        for base in [groups / controllers, groups / controller] if controllers else [groups, groups / controller]:
            folder = base / path.strip("/")
            while True:
                if folder not in seen and ".." not in folder.parts:
                    seen.add(folder)
                    yield folder
                if folder == base or base not in folder.parents:
                    break
                folder = folder.parent


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None
