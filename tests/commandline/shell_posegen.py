"""A `posegen` on PATH that runs this checkout's code, for shells that tests start."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

PLATFORM = Path(__file__).parents[2] / "platform"


def environment(folder: Path) -> dict[str, str]:
    """An environment whose PATH begins with a folder that holds `posegen`."""
    command = folder / "posegen"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m posegen.cli "$@"\n')
    command.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COMP_", "FISH", "ZDOTDIR"))}
    return {**kept, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(PLATFORM),
            "HOME": str(folder), "TERM": "dumb"}  # fmt: skip


def modules_after(code: str, names: tuple[str, ...], cwd: Path) -> list[str]:
    """Which of some modules are loaded after a piece of code has run in a process of its own."""
    told = f"{code}\nimport sys\nsys.stderr.write('LOADED ' + ' '.join(n for n in {names!r} if n in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", told], cwd=cwd, env={**os.environ, "PYTHONPATH": str(PLATFORM)}, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "LOADED" in done.stderr, done.stderr
    return done.stderr.rpartition("LOADED")[2].split()
