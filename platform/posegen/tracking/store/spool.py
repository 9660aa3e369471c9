"""What a store has not taken yet, as files in the run directory, in the order in which it was to be taken.

    tracking/spool/00000012.json       an operation (posegen.tracking.store.operations)
    tracking/spool/00000012/NAME       a file that belongs to it
    tracking/spool/refused/            what the store will never take, kept to be looked at

An operation is whole on the disk before the next one is written, and goes away once the store has taken it: a process
that is killed loses nothing, and what was sent but not yet taken away is sent again, which changes nothing.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from posegen.errors import DataError
from posegen.files.atomic import write_bytes, write_json
from posegen.files.state import read_json

log = logging.getLogger(__name__)

FOLDER = Path("tracking") / "spool"  # in a run directory
FORMAT = 1


class Spool:
    """One folder of operations. Written by one process; sent by it or, when it has ended, by another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writing = threading.Lock()
        self._last = max((int(file.stem) for file in self.waiting()), default=0)

    def waiting(self) -> list[Path]:
        """The operations that were not taken yet, the oldest first."""
        return sorted(file for file in self.folder.glob("*.json") if file.stem.isdigit())

    @property
    def empty(self) -> bool:
        return not self.waiting()

    def add(self, operation: Mapping[str, Any], files: Mapping[str, bytes | Path]) -> None:
        """Keeps an operation behind all others.

        Args:
            files: by name; a path is copied, a folder with all that is in it.
        """
        with self._writing:
            self._last = number = max([self._last, *(int(file.stem) for file in self.waiting()[-1:])]) + 1
            own = self.folder / f"{number:08d}"
            for name, content in files.items():
                own.mkdir(parents=True, exist_ok=True)
                if isinstance(content, bytes):
                    write_bytes(own / name, content)
                elif content.is_dir():
                    shutil.copytree(content, own / name, dirs_exist_ok=True)
                else:
                    shutil.copyfile(content, own / name)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / f"{number:08d}.json", {"format": FORMAT, **operation})

    def send(self, take: Callable[[dict[str, Any], Path], object], is_later: Callable[[Exception], bool]) -> list[str]:
        """Gives the operations to `take` in their order, and forgets those that it took.

        Args:
            take: is given an operation and the folder of its files.
            is_later: whether an error means that the same may be taken later.

        Returns:
            what was refused for good, in words.

        Raises:
            Exception: of `take`, where it may take it later; this operation and all behind it are still there.
        """
        if self.empty:
            return []
        refused: list[str] = []
        try:
            with FileLock(self.folder / ".sending", timeout=0):
                for file in self.waiting():
                    refused += self._send(file, take, is_later)
        except Timeout:
            log.debug("another process sends what waits in %s", self.folder)
        return refused

    def _send(
        self, file: Path, take: Callable[[dict[str, Any], Path], object], is_later: Callable[[Exception], bool]
    ) -> list[str]:
        own = file.with_suffix("")
        try:
            operation = read_json(file, "what waits for MLflow")
            if operation.get("format") != FORMAT:
                raise DataError(f"format {operation.get('format')!r:.20} is not {FORMAT}", where=file)
        except FileNotFoundError:
            return []
        except DataError as error:
            return [self._set_aside(file, str(error))]
        try:
            take(operation, own)
        except Exception as error:
            if is_later(error):
                raise
            return [self._set_aside(file, f"{operation.get('do')} of {operation.get('run')}: {error}")]
        file.unlink(missing_ok=True)
        shutil.rmtree(own, ignore_errors=True)
        return []

    def _set_aside(self, file: Path, reason: str) -> str:
        folder = self.folder / "refused"
        folder.mkdir(exist_ok=True)
        for part in (file, file.with_suffix("")):
            if part.exists():
                shutil.rmtree(folder / part.name, ignore_errors=True)
                part.replace(folder / part.name)
        return reason.splitlines()[0][:300]
