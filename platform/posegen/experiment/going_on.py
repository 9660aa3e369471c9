"""How one goes on with a run: the command that a user types, found in what the run left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from posegen.errors import PosegenError
from posegen.files.state import read_json


def go_on(path: Path) -> str:
    """The command that goes on with a run: as it was kept with the configuration, or with the first data set."""
    first = _first_line(path / "config.yaml")
    if first.startswith("# posegen "):
        return first.removeprefix("# ")
    for manifest in sorted((path / "dataset").glob("*/_manifest.json")):
        command = _command_of(manifest)
        if command:
            return command
    return f"posegen run ... run.name={path.name}   # with what it was begun with"


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
