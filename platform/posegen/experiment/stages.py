"""The run directory and its stages: each is done once, leaves a marker, and is not done again.

A marker holds the digest of everything the stage's result depends on. A run that is called again goes on at the first
stage whose marker is missing or of another digest; Ctrl-C at any moment loses at most what the current stage has not
written yet.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from posegen.errors import DataError


class RunFolder:
    """outputs/<run>: its files and its stages.

    Args:
        path: the directory; made if it is not there.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self.stages = self.path / "stages"
        with _full_disk(self.path):
            self.stages.mkdir(parents=True, exist_ok=True)

    @property
    def name(self) -> str:
        return self.path.name

    def folder(self, *parts: str) -> Path:
        """A sub-folder, made if it is not there."""
        folder = self.path.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def marker(self, stage: str) -> dict[str, Any] | None:
        """What a finished stage left, or None."""
        file = self._marker_file(stage)
        try:
            return json.loads(file.read_text())
        except FileNotFoundError:
            return None
        except ValueError:  # cut short by a crash of the machine: the stage is done again
            return None

    def is_done(self, stage: str, digest: str) -> bool:
        marker = self.marker(stage)
        return marker is not None and marker["digest"] == digest

    def run_stage(self, stage: str, digest: str, work: Callable[[], Mapping[str, Any] | None]) -> dict[str, Any]:
        """Does a stage unless it is done; returns its marker.

        Args:
            stage: such as "finetune/random".
            digest: of everything the result depends on.
            work: returns figures to keep in the marker (JSON).
        """
        marker = self.marker(stage)
        if marker is not None and marker["digest"] == digest:
            return {**marker, "fresh": False}
        start = time.time()
        with _full_disk(self.path):
            figures = dict(work() or {})
            done = {"stage": stage, "digest": digest, "seconds": round(time.time() - start, 3), **figures}
            self.write_json(self._marker_file(stage), done)
        return {**done, "fresh": True}

    def _marker_file(self, stage: str) -> Path:
        return self.stages / (stage.replace("/", "--") + ".json")

    def write_json(self, file: Path, value: Any) -> Path:
        """Atomic: a reader sees the old file or the new one."""
        with _full_disk(self.path):
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_name(f".{file.name}.{os.getpid()}")
            temporary.write_text(json.dumps(value, indent=1, sort_keys=False, default=_plain) + "\n")
            os.replace(temporary, file)
        return file

    def clear(self) -> None:
        """Throws away everything of this run."""
        shutil.rmtree(self.path)
        self.stages.mkdir(parents=True)


def digest_of(*parts: Any) -> str:
    """A short digest of JSON-like values."""
    text = json.dumps(parts, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def file_digest(path: Path | str) -> str:
    """A short digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _plain(value: Any) -> Any:
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


class _full_disk:
    """Turns ENOSPC into an error that says what to do; whatever is complete stays."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise DataError(
                "the disk is full; stages that are done are kept",
                where=self.where,
                next_command="make room, then `posegen run` goes on here",
            ) from error
