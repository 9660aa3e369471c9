"""Writes whole files: a reader sees the old one or the new one, also after a kill or a power cut."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from posegen.errors import DataError

FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def writing(folder: Path | str) -> Iterator[None]:
    """Turns a full disk and a folder that cannot be written into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DataError(
                "the disk is full; stages that are done are kept",
                where=folder,
                next_command="make room, then `posegen run` goes on here",
            ) from error
        if error.errno in READ_ONLY:
            raise DataError(
                f"the folder cannot be written ({error.strerror})",
                where=error.filename or folder,
                next_command="name a folder you may write: posegen run run.outputs=FOLDER",
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise DataError("a file is in the way of a folder", where=error.filename or folder) from error
        raise


_PARTIAL = re.compile(r"\..+\.\d+-[0-9a-f]{6}\.part(\.\w+)?")
_STALE_S = 60.0  # no file of ours takes that long to be written


def sweep_partials(folder: Path | str) -> list[Path]:
    """Removes what killed writers have left below a folder: files of `replacing` that nobody writes any more."""
    swept = []
    for file in Path(folder).rglob(".*"):
        if _PARTIAL.fullmatch(file.name) and file.is_file() and not file.is_symlink():
            try:
                if abs(time.time() - file.stat().st_mtime) > _STALE_S:  # abs: the clock may have been set back
                    file.unlink()
                    swept.append(file)
            except OSError:
                continue  # another process was faster, or the folder is read only
    return swept


@contextmanager
def replacing(path: Path | str, mode: int | None = None) -> Iterator[Path]:
    """A temporary path beside `path`; at the end it is synced and takes its place, after an error it is removed.

    Args:
        mode: permissions of the new file, such as 0o600, from its first byte on; None leaves them to the umask.
    """
    path = Path(path)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name[:80]}.{os.getpid()}-{secrets.token_hex(3)}.part{path.suffix}")
        try:
            if mode is not None:
                os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
            yield partial
            with open(partial, "rb+") as file:
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            os.replace(partial, path)
            sync_folder(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def sync_folder(folder: Path | str) -> None:
    """Makes a rename durable: the entry of the folder itself is flushed, where the file system knows how."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # a folder that may be written and not read
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def write_bytes(path: Path | str, data: bytes, mode: int | None = None) -> Path:
    with replacing(path, mode) as partial:
        partial.write_bytes(data)
    return Path(path)


def write_text(path: Path | str, text: str, mode: int | None = None) -> Path:
    return write_bytes(path, text.encode("utf-8", errors="surrogateescape"), mode)


def write_json(path: Path | str, value: Any, *, nan: bool = True, mode: int | None = None) -> Path:
    """JSON; numpy scalars and arrays become numbers and lists. Without `nan` a NaN is an error."""
    return write_text(path, json.dumps(value, indent=1, default=plain, allow_nan=nan) + "\n", mode)


def plain(value: Any) -> Any:
    """numpy's and torch's numbers and arrays as JSON takes them; anything else as text."""
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
