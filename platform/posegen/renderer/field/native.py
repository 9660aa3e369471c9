"""The fused CPU kernel as a library: what it takes, and loading it."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

from posegen.compiled import load_library

SOURCE = Path(__file__).with_name("field_kernel.cpp")
HEADERS = tuple(SOURCE.with_name(f"field_{part}.h") for part in ("march", "problem", "voxels", "shading", "vector"))

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


@lru_cache(maxsize=1)
def load_kernel() -> ctypes.CDLL:
    """The compiled kernel. Raises NativeUnavailable with the reason and the remedy."""
    library = load_library(SOURCE, HEADERS, Problem)
    library.posegen_forward.argtypes = [ctypes.POINTER(Problem), ctypes.c_int]
    library.posegen_forward.restype = ctypes.c_void_p
    library.posegen_backward.argtypes = [ctypes.POINTER(Problem), ctypes.c_void_p]
    library.posegen_backward.restype = None
    library.posegen_samples.argtypes = [ctypes.c_void_p]
    library.posegen_samples.restype = ctypes.c_int64
    library.posegen_free.argtypes = [ctypes.c_void_p]
    library.posegen_free.restype = None
    return library
