"""How one goes on with a run: the command that a user types, found in what the run left."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from posegen.errors import PosegenError
from posegen.files.state import read_json

# What makes a run this run and no other; with another seed nothing of the same run is of use.
_ITS_OWN = ("run.name", "run.restart", "run.kin", "seed")


def go_on(path: Path) -> str:
    """The command that goes on with a run: as it was kept with the configuration, or with the first data set."""
    return _kept(path) or f"posegen run ... run.name={path.name}   # with what it was begun with"


def with_seed(command: str, seed: int) -> str:
    """The same experiment with another seed, as a run of its own."""
    words = [word for word in shlex.split(command) if word.partition("=")[0] not in _ITS_OWN]
    return shlex.join([*words, f"seed={seed}"])


def another(path: Path, seed: int) -> str:
    """The command that makes what a run has made with another seed."""
    try:
        return with_seed(_kept(path) or "posegen run", seed)
    except ValueError:  # quotes that somebody has left open
        return with_seed("posegen run", seed)


def _kept(path: Path) -> str:
    first = _first_line(path / "config.yaml")
    if first.startswith("# posegen "):
        return first.removeprefix("# ")
    for manifest in sorted((path / "dataset").glob("*/_manifest.json")):
        command = _command_of(manifest)
        if command:
            return command
    return ""


def _command_of(manifest: Path) -> str:
    try:
        told: Any = read_json(manifest, "the manifest").get("command")
    except (PosegenError, OSError):
        return ""
    return told if isinstance(told, str) and told.startswith("posegen ") and "\n" not in told else ""


def _first_line(file: Path) -> str:
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            return opened.readline(4096).strip()
    except OSError:
        return ""
