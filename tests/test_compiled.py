"""Kernels compiled at first use: their memory and arithmetic, watched by the compiler's sanitisers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from posegen.compiled import find_compiler

HERE = Path(__file__).parent
TESTS = {"renderer": "test_field_render.py", "estimator": "test_depthwise.py"}


def _library(compiler: str, name: str) -> str:
    """Where the compiler has a library of its own."""
    asked = [compiler, f"-print-file-name={name}"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("room", TESTS)
def test_the_kernel_reads_and_writes_what_is_its_own_and_no_more(room):
    """All tests of a kernel again in a process where it is sanitised; g++'s sanitisers must be loaded first."""
    loaded = " ".join(_library(find_compiler(), name) for name in ("libasan.so", "libubsan.so"))
    variables = os.environ | {
        "LD_PRELOAD": loaded,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
    }
    plugin = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "sanitised_kernel"]
    command = [*plugin, str(HERE / room / TESTS[room])]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
