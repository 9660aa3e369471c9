"""Opens zip archives whose members fit the file: no bombs, no members laid over each other, no names out of place."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posegen.errors import DataError

MAX_MEMBERS = 200_000
MAX_RATIO, ALLOWANCE = 100, 64 * 2**20  # times the file's size that its members may unpack into, beyond an allowance
_ENCRYPTED = 0x1


@contextmanager
def open_zip(path: Path, compressed: bool = True) -> Iterator[zipfile.ZipFile]:
    """An archive whose list of members was checked. DataError says what is wrong with it.

    Args:
        compressed: whether members may be compressed (deflate).
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:  # RuntimeError: a zip version it lacks
        raise DataError(f"the archive is cut short or damaged: {error}", where=path) from error
    with archive:
        check_members(archive, path, compressed)
        yield archive


def check_members(archive: zipfile.ZipFile, path: Path, compressed: bool) -> None:
    members, size = archive.infolist(), path.stat().st_size
    if len(members) > MAX_MEMBERS:
        raise DataError(f"the archive has more than {MAX_MEMBERS:,} members", where=path)
    seen: set[str] = set()
    for member in members:
        name = member.filename
        if name in seen:
            raise DataError(f"the archive holds {name[:100]!r} twice", where=path)
        seen.add(name)
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name[:2]:
            raise DataError(f"the archive holds a member out of place: {name[:100]!r}", where=path)
        if member.flag_bits & _ENCRYPTED:
            raise DataError("the archive is encrypted", where=path)
        if member.compress_type not in ((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) if compressed else (0,)):
            raise DataError(f"{name[:100]!r} is compressed in a way that is not read here", where=path)
        if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
            raise DataError(f"{name[:100]!r} has two different sizes: the archive is damaged", where=path)
    if sum(member.compress_size for member in members) > size:
        raise DataError("the archive's members are larger than it: it is damaged", where=path)
    if sum(member.file_size for member in members) > ALLOWANCE + MAX_RATIO * size:
        raise DataError("the archive unpacks into far more than such a file holds", where=path)


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A member's bytes, no more than the archive says it has."""
    with archive.open(member) as stream:
        content = stream.read(member.file_size + 1)
    if len(content) != member.file_size:
        raise DataError(f"{member.filename[:100]!r} is cut short")
    return content
