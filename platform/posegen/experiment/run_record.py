"""run.json: what makes a folder a run directory of ours. Its format's version, and an id that no other run has.

The version is of the directory as a whole: which files there are and what their keys mean. Directories without a
record are of version 0, made before there was one; they are read, gone on with, and get their record then.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from posegen import __version__
from posegen.errors import DataError
from posegen.experiment.run_folders import RUN_FILE, is_old, is_run
from posegen.files.atomic import write_json
from posegen.files.lock import LOCK_FILE
from posegen.files.state import read_json
from posegen.files.versions import checked_format

KIND = "posegen run directory"
FORMAT = 1
# What a run directory may hold before a run has begun in it: its lock, and the marks by which nodes see each other.
_BEFORE = (LOCK_FILE, ".trial.lock")


@dataclass(frozen=True)
class RunRecord:
    """What run.json says."""

    format: int
    id: str  # of this run alone, "" where the directory is older than ids


def read_record(path: Path) -> RunRecord | None:
    """The record of a run directory; None where there is none. DataError for one of a newer posegen."""
    file = path / RUN_FILE
    cure = f"rm {file}  # the next run in this directory writes it again"
    try:
        stored = read_json(file, "the run's record", cure)
    except FileNotFoundError:
        return None
    version, run_id = stored.get("format"), stored.get("id")
    if stored.get("kind") != KIND or not isinstance(version, int) or not isinstance(run_id, str) or len(run_id) > 64:
        raise DataError("this is no record of a run", where=file, next_command=cure)
    made_by = str(stored.get("posegen", "?"))[:40]
    checked_format(version, FORMAT, f"the run directory, made by posegen {made_by},", path, "choose another run.name")
    return RunRecord(version, run_id)


def ensure_record(path: Path) -> RunRecord:
    """The record of a folder that a run begins or goes on in. DataError where the folder is something else."""
    record = read_record(path)
    if record is not None:
        return record
    old = is_old(path)
    refuse_foreign(path)
    record = RunRecord(FORMAT, "" if old else secrets.token_hex(6))
    write_json(
        path / RUN_FILE,
        {
            "kind": KIND, "format": record.format, "id": record.id, "posegen": __version__,
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    )  # fmt: skip
    return record


def refuse_foreign(path: Path) -> None:
    """DataError for a folder that is there and holds other things than a run."""
    if not path.is_dir() or is_run(path):
        return
    strangers = sorted(
        entry.name for entry in path.iterdir()
        if entry.name not in (*_BEFORE, "stages", "config.yaml") and not entry.name.startswith(".")
    )  # fmt: skip
    if strangers:
        raise DataError(
            f"the folder is no run directory: it holds {', '.join(strangers[:5])} and no {RUN_FILE}",
            where=path,
            next_command="choose another run.name or run.outputs",
        )


def marker_name(stage: str) -> str:
    """The file that a stage's marker is kept in."""
    return stage.replace("/", "--") + ".json"


def stage_of(marker: Path) -> str:
    """The stage whose marker a file is: the inverse of marker_name."""
    return marker.stem.replace("--", "/")
