"""A folder of shards, on a local disk or behind any fsspec URL, in which a file is there wholly or not at all."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from posegen.errors import DataError

FULL = (errno.ENOSPC, errno.EDQUOT)


class Folder:
    """Reads and atomically writes whole files.

    Local files go to a temporary name first, are synced and then renamed; object stores show an object only once its
    upload is complete, so there one PUT is enough.
    """

    def __init__(self, url: str | Path, **options: Any) -> None:
        self.url = str(url)
        self.options = options
        self.fs, self.path = fsspec.core.url_to_fs(self.url, **options)
        self.local = isinstance(self.fs, LocalFileSystem)

    def __str__(self) -> str:
        return self.path if self.local else self.url

    def __reduce__(self):
        return (_open_folder, (self.url, self.options))

    def where(self, name: str) -> str:
        return f"{str(self).rstrip('/')}/{name}"

    def sizes(self) -> dict[str, int]:
        """File names in the folder with their bytes; empty when there is no folder."""
        self.fs.invalidate_cache(self.path)
        try:
            entries = self.fs.ls(self.path, detail=True)
        except FileNotFoundError:
            return {}
        return {Path(e["name"]).name: int(e["size"]) for e in entries if e["type"] == "file"}

    def read(self, name: str, most: int | None = None) -> bytes:
        """A whole file; DataError if it has more than `most` bytes."""
        path = f"{self.path}/{name}"
        if most is not None and int(self.fs.info(path)["size"]) > most:
            raise DataError(f"the file has more than {most // 2**20} MB", where=self.where(name))
        return self.fs.cat_file(path)

    def input(self, name: str) -> pa.NativeFile:
        """An Arrow file to read from, memory-mapped where the disk is local."""
        if self.local:
            return pa.memory_map(f"{self.path}/{name}")
        return pa.PythonFile(self.fs.open(f"{self.path}/{name}", "rb"), mode="r")

    def remove(self, name: str) -> None:
        try:
            self.fs.rm_file(f"{self.path}/{name}")
        except FileNotFoundError:
            return  # gone already: another process cleaned up

    def write(self, name: str, data: bytes | memoryview | pa.Buffer) -> None:
        """Writes a whole file, atomically. DataError when the disk is full: nothing half-written stays behind."""
        if not self.local:
            self.fs.pipe_file(f"{self.path}/{name}", bytes(memoryview(data)))
            return
        temporary = f"{self.path}/.{name}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            os.makedirs(self.path, exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(memoryview(data))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, f"{self.path}/{name}")
            sync_directory(self.path)
        except OSError as error:
            if os.path.exists(temporary):
                os.remove(temporary)
            if error.errno in FULL:
                raise DataError(
                    f"the disk is full: {name} could not be written; the shards before it are complete and kept",
                    where=self,
                    next_command=f"df -h {self.path}  # make room, then run the same command again: it continues",
                ) from error
            raise

    def clean(self) -> None:
        """Removes temporary files that a killed writer left."""
        for name in self.sizes():
            if name.startswith(".") and name.endswith(".tmp"):
                self.remove(name)


def _open_folder(url: str, options: dict[str, Any]) -> Folder:
    return Folder(url, **options)


def sync_directory(path: str) -> None:
    """Makes a rename durable: the entry of the folder itself is flushed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
