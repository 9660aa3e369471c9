"""In which MLflow experiment a run is kept, and the command that shows it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DEFAULT_EXPERIMENT = "posegen"


def experiment_name(tracking: Mapping[str, Any]) -> str:
    """What the configuration says, else what MLflow's own variable says.

    Args:
        tracking: the configuration's part of that name.
    """
    named = str(tracking["experiment"])
    return named if named != DEFAULT_EXPERIMENT else os.environ.get("MLFLOW_EXPERIMENT_NAME") or named


def ui_command(outputs: str | Path, tracking: Mapping[str, Any]) -> str:
    """`posegen ui` with all that it needs to show the runs of a folder. No address with a password in it is shown."""
    words = ["posegen", "ui"]
    if Path(outputs) != Path("outputs"):
        words += ["--outputs", str(outputs)]
    uri = tracking["uri"]
    if uri and "@" not in urlsplit(uri).netloc and not urlsplit(uri).query:
        words += ["--uri", uri]
    name = experiment_name(tracking)
    if name != (os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT):
        words += ["--experiment", name]
    return shlex.join(words)
