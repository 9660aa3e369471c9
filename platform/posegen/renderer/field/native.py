"""Compiles the fused CPU kernel on first use and loads it.

The library is cached under a name that holds a hash of the source, the compiler, its flags and the processor, so
that it is compiled once on each kind of machine and a shared cache holds the right one for all.
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
from functools import lru_cache
from pathlib import Path

from posegen.assets import cache_dir

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("field_kernel.cpp")
HEADERS = tuple(SOURCE.with_name(f"field_{part}.h") for part in ("problem", "voxels", "shading", "vector"))
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-pthread", "-fno-math-errno", "-fno-trapping-math")
TIMEOUT_S = 180

_POINTERS = ("M", "c", "light", "shade", "lens", "volume", "boxes", "table", "low", "high", "occupied", "out",
             "grad_out", "grad_M", "grad_c", "grad_light", "grad_shade", "grad_lens", "grad_table")  # fmt: skip


class Problem(ctypes.Structure):
    """One call of the kernel; mirrors `Problem` in field_problem.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "volumes", "resolution", "height", "width", "threads")),
        *((name, ctypes.c_float) for name in ("step", "near", "threshold")),
        *((name, ctypes.c_void_p) for name in _POINTERS),
        ("table_size", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("codes", "code_low", "code_scale", "blocks")),
    ]


class NativeUnavailable(Exception):
    """Why there is no fused kernel on this machine, and what would give it."""


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    except OSError:
        pass
    return platform.processor()


def _compiler() -> str:
    for name in (os.environ.get("CXX"), *COMPILERS):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise NativeUnavailable("there is no C++ compiler here; install g++ (Debian, Ubuntu: apt install g++)")


def library_path(compiler: str) -> Path:
    """Where the library of this machine is cached."""
    sources = [path.read_text() for path in (SOURCE, *HEADERS)]
    key = "\n".join([*sources, compiler, *FLAGS, platform.machine(), _processor()])
    return cache_dir() / "native" / f"field_kernel-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"


def _compile(compiler: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        part = Path(folder) / target.name
        command = [compiler, *FLAGS, str(SOURCE), "-o", str(part)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NativeUnavailable(f"{compiler} did not finish: {error}") from error
        if result.returncode != 0:
            message = next((line for line in result.stderr.splitlines() if "error" in line), "no message")
            raise NativeUnavailable(f"{compiler} could not compile the kernel: {message.strip()}")
        os.replace(part, target)  # several processes may compile at once: the last one wins, all are complete


@lru_cache(maxsize=1)
def load_kernel() -> ctypes.CDLL:
    """The compiled kernel. Raises NativeUnavailable with the reason and the remedy."""
    compiler = _compiler()
    try:
        path = library_path(compiler)
        if not path.exists():
            _compile(compiler, path)
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailable(f"the compiled kernel cannot be stored or loaded: {error}") from error
    library.posegen_problem_size.restype = ctypes.c_int64
    if library.posegen_problem_size() != ctypes.sizeof(Problem):
        raise NativeUnavailable("the compiled kernel does not match its caller; delete it from the cache")
    library.posegen_forward.argtypes = [ctypes.POINTER(Problem), ctypes.c_int]
    library.posegen_forward.restype = ctypes.c_void_p
    library.posegen_backward.argtypes = [ctypes.POINTER(Problem), ctypes.c_void_p]
    library.posegen_backward.restype = None
    library.posegen_samples.argtypes = [ctypes.c_void_p]
    library.posegen_samples.restype = ctypes.c_int64
    library.posegen_free.argtypes = [ctypes.c_void_p]
    library.posegen_free.restype = None
    return library
