"""The run directory and its stages: each is done once, leaves a marker, and is not done again.

A marker holds the digest of everything the stage's result depends on. A run that is called again goes on at the first
stage whose marker is missing or of another digest; Ctrl-C at any moment loses at most what the current stage has not
written yet.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from posegen.errors import DataError
from posegen.experiment.run_folders import RUN_FILE, is_run
from posegen.experiment.run_record import RunRecord, ensure_record, marker_name
from posegen.files.atomic import plain, write_json, writing
from posegen.files.lock import LOCK_FILE
from posegen.files.state import read_json
from posegen.files.versions import checked_format
from posegen.progress import Bar

log = logging.getLogger(__name__)

# name, title, digest, total, work -> marker: posegen.experiment.experiment.Experiment.stage
RunStage = Callable[[str, str, str, int | None, Callable[[Bar], Mapping[str, Any]]], dict[str, Any]]

MARKER_FORMAT = 1


class RunFolder:
    """outputs/<run>: its files and its stages.

    Args:
        path: the directory; made if it is not there. DataError where it holds other things than a run.
        name: what a user calls it by, such as `exp/r1`; the last part of the path by default.
    """

    def __init__(self, path: Path | str, name: str | None = None) -> None:
        self.path = Path(path).absolute()
        self.name = name or self.path.name
        self.stages = self.path / "stages"
        self.forgotten: set[str] = set()  # stages that are done again
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self.record: RunRecord = ensure_record(self.path)
            self.stages.mkdir(exist_ok=True)

    def folder(self, *parts: str) -> Path:
        """A sub-folder, made if it is not there."""
        folder = self.path.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def marker(self, stage: str) -> dict[str, Any] | None:
        """What a finished stage left, or None."""
        return read_marker(self.path, stage)

    def is_done(self, stage: str, digest: str) -> bool:
        marker = self.marker(stage)
        return marker is not None and marker.get("digest") == digest

    def run_stage(self, stage: str, digest: str, work: Callable[[], Mapping[str, Any] | None]) -> dict[str, Any]:
        """Does a stage unless it is done; returns its marker.

        Args:
            stage: such as "finetune/random".
            digest: of everything the result depends on.
            work: returns figures to keep in the marker (JSON).
        """
        marker = self.marker(stage)
        if marker is not None and marker.get("digest") == digest:
            return {**marker, "fresh": False}
        start = time.monotonic()  # a clock may be set back
        with writing(self.path):
            figures = dict(work() or {})
            done = {"format": MARKER_FORMAT, "stage": stage, "digest": digest}
            done |= {"seconds": round(time.monotonic() - start, 3), **figures}
            self.write_json(self._marker_file(stage), done)
        return {**done, "fresh": True}

    def forget(self, stage: str) -> None:
        """Takes a stage's marker away: what it left cannot be used, and it is done again."""
        self._marker_file(stage).unlink(missing_ok=True)
        self.forgotten.add(stage)

    def _marker_file(self, stage: str) -> Path:
        return self.stages / marker_name(stage)

    def write_json(self, file: Path, value: Any) -> Path:
        """Atomic: a reader sees the old file or the new one."""
        return write_json(file, value)

    def clear(self) -> None:
        """Throws away everything of this run. Nothing is deleted of a folder that is no run directory."""
        if not is_run(self.path) or self.path.resolve() != self.path.parent.resolve() / self.path.name:
            raise DataError(
                f"only a run directory is cleared: a folder, not a link, with {RUN_FILE}", where=self.path,
                next_command="choose another run.name",
            )  # fmt: skip
        with writing(self.path):
            for entry in self.path.iterdir():
                if entry.name in (LOCK_FILE, RUN_FILE):  # the lock is held, and the id stays until the rest has gone
                    continue
                if entry.is_symlink() or not entry.is_dir():
                    entry.unlink()
                else:
                    shutil.rmtree(entry)  # does not follow links
            (self.path / RUN_FILE).unlink(missing_ok=True)
            self.record = ensure_record(self.path)
            self.stages.mkdir(exist_ok=True)


def read_marker(run_dir: Path, stage: str) -> dict[str, Any] | None:
    """What a finished stage of a run left, or None."""
    file = run_dir / "stages" / marker_name(stage)
    try:
        found = read_json(file, "the stage's marker")
    except FileNotFoundError:
        return None
    except DataError as error:  # cut short by a crash of the machine
        log.warning("%s (%s): the stage is done again", error.what, error.where)
        return None
    version = found.get("format")
    if version is not None and not (isinstance(version, int) and version >= 1):
        log.warning("the stage's marker is damaged (%s): the stage is done again", file)
        return None
    checked_format(version, MARKER_FORMAT, "the stage's marker", file, f"rm {file}  # the stage is then done again")
    return found


def stage_times(run_dir: Path, stages: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """When each finished stage began and ended (time.time), from its marker."""
    found: dict[str, tuple[float, float]] = {}
    for stage, record in stages.items():
        try:
            end = (run_dir / "stages" / marker_name(stage)).stat().st_mtime
        except OSError:
            continue
        seconds = record.get("seconds")
        found[stage] = (end - float(seconds if isinstance(seconds, int | float) else 0.0), end)
    return found


def wall_seconds(times: Iterable[tuple[float, float]]) -> float:
    """How long anything was at work; of stages that were at work side by side each second counts once."""
    total, reached = 0.0, float("-inf")
    for began, ended in sorted(times):
        total += max(0.0, ended - max(began, reached))
        reached = max(reached, ended)
    return total


def digest_of(*parts: Any) -> str:
    """A short digest of JSON-like values."""
    text = json.dumps(parts, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def file_digest(path: Path | str) -> str:
    """A short digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
