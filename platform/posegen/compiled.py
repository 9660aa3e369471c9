"""Compiles C++ of this package on first use and loads it.

A library is cached under a name that holds a hash of the source, the compiler, its flags and the processor, so that it
is compiled once on each kind of machine and a shared cache holds the right one for all.
torch.utils.cpp_extension is not used: it needs ninja, and its cache does not know the processor, so that what was built
with -march=native would end a process on another machine that shares the folder.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from posegen.assets import cache_dir

logger = logging.getLogger(__name__)

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-pthread", "-fno-math-errno", "-fno-trapping-math")
TIMEOUT_S = 180
_said: set[str] = set()


class NativeUnavailable(Exception):
    """Why there is no compiled kernel on this machine, and what would give it."""


def say_once(message: str) -> None:
    """Logs which path is taken, the first time that it is."""
    if message not in _said:
        _said.add(message)
        logger.info(message)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    except OSError:
        pass
    return platform.processor()


def find_compiler() -> str:
    """The C++ compiler: $CXX, or the first of COMPILERS. Raises NativeUnavailable."""
    for name in (os.environ.get("CXX"), *COMPILERS):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise NativeUnavailable("there is no C++ compiler here; install g++ (Debian, Ubuntu: apt install g++)")


def library_path(source: Path, headers: tuple[Path, ...], compiler: str) -> Path:
    """Where the library of this machine is cached."""
    texts = [path.read_text() for path in (source, *headers)]
    key = "\n".join([*texts, compiler, *FLAGS, platform.machine(), _processor()])
    return cache_dir() / "native" / f"{source.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"


def _compile(source: Path, compiler: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        part = Path(folder) / target.name
        command = [compiler, *FLAGS, str(source), "-o", str(part)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NativeUnavailable(f"{compiler} did not finish: {error}") from error
        if result.returncode != 0:
            message = next((line for line in result.stderr.splitlines() if "error" in line), "no message")
            raise NativeUnavailable(f"{compiler} could not compile the kernel: {message.strip()}")
        os.replace(part, target)  # several processes may compile at once: the last one wins, all are complete


def load_library(source: Path, headers: tuple[Path, ...], problem: type[ctypes.Structure]) -> ctypes.CDLL:
    """The library of a C++ file, compiled if it is not in the cache.

    Args:
        source: has a function posegen_problem_size.
        headers: what else it is made of.
        problem: mirrors the structure of which that function gives the size.

    Raises:
        NativeUnavailable: with the reason and the remedy.
    """
    compiler = find_compiler()
    try:
        path = library_path(source, headers, compiler)
        if not path.exists():
            _compile(source, compiler, path)
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailable(f"the compiled kernel cannot be stored or loaded: {error}") from error
    library.posegen_problem_size.restype = ctypes.c_int64
    if library.posegen_problem_size() != ctypes.sizeof(problem):
        raise NativeUnavailable("the compiled kernel does not match its caller; delete it from the cache")
    return library
