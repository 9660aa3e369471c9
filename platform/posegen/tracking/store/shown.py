"""In which MLflow experiment a run is kept, and the command that shows it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_EXPERIMENT = "posegen"


def experiment_name(named: str = DEFAULT_EXPERIMENT) -> str:
    """What the configuration's tracking.experiment says, else what MLflow's own variable says."""
    return named if named != DEFAULT_EXPERIMENT else os.environ.get("MLFLOW_EXPERIMENT_NAME") or named


def ui_command(outputs: str | Path, experiment: str = DEFAULT_EXPERIMENT, uri: str | None = None) -> str:
    """`posegen ui` with all that it needs to show the runs of a folder, typed in any shell: what this process has of
    MLflow's variables is named. No address with a password in it is shown.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    words = ["posegen", "ui"]
    if Path(outputs) != Path("outputs"):
        words += ["--outputs", str(outputs)]
    if uri and "@" not in urlsplit(uri).netloc and not urlsplit(uri).query:
        words += ["--uri", uri]
    name = experiment_name(experiment)
    if name != DEFAULT_EXPERIMENT:
        words += ["--experiment", name]
    return shlex.join(words)
