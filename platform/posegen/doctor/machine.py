"""Interpreter, packages, processor, memory, disks, graphics card."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from posegen.compiled import NativeUnavailable, find_compiler
from posegen.doctor.finding import ERROR, INFO, OK, WARNING, Finding
from posegen.machine import cores, memory_bytes

SECTION = "machine"
PYTHON = ((3, 11), (3, 14))  # from, below
GB = 1e9
NEEDED_RAM_GB, NEEDED_DISK_GB, NEEDED_SHM_GB = 3.0, 2.0, 0.3


def python() -> Finding:
    found = sys.version_info[:2]
    good = PYTHON[0] <= found < PYTHON[1]
    text = f"{platform.python_version()} at {sys.executable}"
    hint = (
        ""
        if good
        else f"posegen needs Python {PYTHON[0][0]}.{PYTHON[0][1]} to {PYTHON[1][0]}.{PYTHON[1][1] - 1}: make setup"
    )
    return Finding(SECTION, "python", OK if good else ERROR, text, hint)


def packages() -> Iterator[Finding]:
    """Each requirement of posegen against what is installed; read from metadata, nothing is imported."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        listed = requires("posegen") or []
    except PackageNotFoundError:
        yield Finding(SECTION, "posegen", ERROR, "is not installed in this environment", "make setup")
        return
    wrong, right = [], []
    for line in listed:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if requirement.specifier.contains(found, prereleases=True):
            right.append(requirement.name)
        else:
            wrong.append(f"{requirement.name} {found} instead of {requirement.specifier}")
    if wrong:
        yield Finding(SECTION, "packages", ERROR, "; ".join(wrong), "make setup")
    else:
        shown = ", ".join(f"{name} {version(name)}" for name in ("ray", "mlflow", "nerfacc") if name in right)
        yield Finding(SECTION, "packages", OK, f"{len(right)} as required ({shown})")


def torch_and_cuda() -> Iterator[Finding]:
    """torch works on the CPU, and on the GPU where there is one: both are asked to multiply, not to promise."""
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding(SECTION, "torch", ERROR, f"cannot be imported: {error}", "make setup")
        return
    value = float((torch.ones(8, 8) @ torch.ones(8, 8)).sum())
    build = f"{torch.__version__}, {torch.get_num_threads()} threads"
    yield Finding(
        SECTION, "torch", OK if value == 512 else ERROR, build, "" if value == 512 else "wrong result: make setup"
    )
    if not torch.cuda.is_available():
        seen = shutil.which("nvidia-smi") is not None
        compiled = torch.version.cuda is not None
        if seen and not compiled:
            yield Finding(
                SECTION, "cuda", WARNING, "the machine has nvidia-smi, but this torch is the CPU build",
                "install the CUDA build of the same torch version into .venv to use the GPU",
            )  # fmt: skip
        elif seen:
            yield Finding(
                SECTION, "cuda", WARNING, "torch has CUDA but finds no usable GPU", "check the driver: nvidia-smi"
            )
        else:
            yield Finding(SECTION, "cuda", INFO, "no GPU: everything runs on the CPU")
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        text = f"{properties.name}, {properties.total_memory / GB:.0f} GB, sm_{properties.major}{properties.minor}"
        try:
            ones = torch.ones(8, 8, device=f"cuda:{index}")
            good = float((ones @ ones).sum()) == 512
        except RuntimeError as error:
            yield Finding(SECTION, f"cuda:{index}", ERROR, text, f"cannot compute: {str(error).splitlines()[0]}")
            continue
        yield Finding(SECTION, f"cuda:{index}", OK if good else ERROR, text)


def processor() -> Iterator[Finding]:
    yield Finding(SECTION, "cores", OK, f"{cores()} ({platform.machine()})")
    ram = memory_bytes() / GB
    good = ram >= NEEDED_RAM_GB
    hint = "" if good else f"the quickstart wants {NEEDED_RAM_GB:.0f} GB: lower engine.object_store_mb"
    yield Finding(SECTION, "memory", OK if good else WARNING, f"{ram:.1f} GB", hint)
    try:
        yield Finding(SECTION, "compiler", OK, find_compiler())
    except NativeUnavailable:
        text = "no C++ compiler: the renderer and training take their plain torch paths"
        yield Finding(SECTION, "compiler", INFO, text, "install g++ for faster rendering and training on the CPU")


def disk(name: str, path: Path, needed_gb: float, hint: str) -> Finding:
    """Free space where `path` is or will be, and whether it can be written."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    try:
        free = shutil.disk_usage(place).free / GB
    except OSError as error:
        return Finding(SECTION, name, ERROR, f"{path}: {error.strerror}", hint)
    text = f"{free:.1f} GB free at {path}"
    if not os.access(place, os.W_OK):
        return Finding(SECTION, name, ERROR, f"{path} cannot be written", hint)
    if free < needed_gb:
        return Finding(
            SECTION, name, ERROR if free < needed_gb / 4 else WARNING, text, f"{needed_gb:g} GB are wanted: {hint}"
        )
    return Finding(SECTION, name, OK, text)


def shared_memory(path: Path = Path("/dev/shm")) -> Finding:
    """Ray keeps its objects there."""
    if not path.is_dir():
        return Finding(
            SECTION, "shared memory", WARNING, f"{path} is not there", "Ray falls back to files, which is slow"
        )
    free = shutil.disk_usage(path).free / GB
    if free < NEEDED_SHM_GB:
        hint = "in a container: start it with --shm-size=1g; else Ray falls back to files, which is slow"
        return Finding(SECTION, "shared memory", WARNING, f"{free:.2f} GB free at {path}", hint)
    return Finding(SECTION, "shared memory", OK, f"{free:.1f} GB free at {path}")


def examine(cache: Path, outputs: Path) -> Iterator[Finding]:
    yield python()
    yield from packages()
    yield from torch_and_cuda()
    yield from processor()
    yield disk("cache disk", cache, NEEDED_DISK_GB, "set POSEGEN_CACHE to another disk")
    yield disk("outputs disk", outputs, NEEDED_DISK_GB, "set run.outputs to another disk")
    yield shared_memory()
