"""Arrays out of .npy and .npz files, or out of the bytes of an answer.

Checked before memory is taken: the declared shape against the bytes that are there, the unfolded size against the
file's, the kind of each array against what is expected. Only members that are asked for are unpacked. Objects (which
are pickles), records and dates are refused; floats are finite unless told otherwise.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from posegen.errors import DataError, PosegenError
from posegen.files.guard import Budget, Told, decoding, regular_file
from posegen.files.npy import NUMBERS, TEXT, read_body, read_header, shaped
from posegen.files.values import characters_exist
from posegen.files.values import finite as all_finite

MOST_MEMBERS = 100_000
_ENCRYPTED = 0x1
_SHOWN = 12


def read_npy(
    path: str | Path,
    what: str = "the array file",
    *,
    kinds: str = NUMBERS,
    finite: bool = True,
    error: type[PosegenError] = DataError,
    next_command: str | None = None,
) -> NDArray:
    """One .npy file. `kinds`: numpy's letters of the kinds that are taken."""
    path = Path(path)
    told = Told(what, path, error, next_command)
    size = regular_file(path, told)
    with decoding(told), path.open("rb") as file:
        header = read_header(file, size, kinds, told)
        array = shaped(np.fromfile(file, header.dtype, header.count), header)
    return _checked(array, finite, told)


def read_npz(  # noqa: PLR0913 - all that a reader may ask of a file is asked at once
    source: str | Path | bytes,
    needed: Sequence[str],
    optional: Sequence[str] = (),
    *,
    text: Collection[str] = (),
    unbounded: Collection[str] = (),
    what: str = "the npz file",
    where: object = None,
    error: type[PosegenError] = DataError,
    next_command: str | None = None,
) -> dict[str, NDArray]:
    """Members of an .npz file by name: all of `needed`, and those of `optional` that are there.

    Args:
        source: a file, or its bytes (`where` then says where they come from).
        text: names of members that are text; all others are numbers.
        unbounded: names of members that may hold NaN and infinite values.
        what: begins errors, e.g. "the motion file".
    """
    told = Told(what, source if where is None and not isinstance(source, bytes) else where, error, next_command)
    with _Archive(source, told) as archive:
        missing = [name for name in needed if name not in archive.members]
        if missing:
            have = ", ".join(list(archive.members)[:_SHOWN]) or "nothing"
            raise error(
                f"{what} lacks {', '.join(missing)} (it has {have}{', ...' if len(archive.members) > _SHOWN else ''})",
                where=told.where, choices=needed, next_command=next_command,
            )  # fmt: skip
        names = [name for name in dict.fromkeys([*needed, *optional]) if name in archive.members]
        return {name: archive.array(name, TEXT if name in text else NUMBERS, name not in unbounded) for name in names}


def read_all_npz(
    source: str | Path | bytes,
    *,
    text: Collection[str] = (),
    finite: bool = True,
    what: str = "the npz file",
    where: object = None,
    error: type[PosegenError] = DataError,
    next_command: str | None = None,
) -> dict[str, NDArray]:
    """All arrays of an .npz file. Members that are no arrays are passed over; arrays of objects are refused."""
    told = Told(what, source if where is None and not isinstance(source, bytes) else where, error, next_command)
    with _Archive(source, told) as archive:
        return {name: archive.array(name, TEXT if name in text else NUMBERS, finite) for name in archive.members}


def npz_names(path: str | Path, what: str = "the npz file", error: type[PosegenError] = DataError) -> list[str]:
    """The names of a file's arrays; nothing is unpacked."""
    with _Archive(path, Told(what, path, error)) as archive:
        return list(archive.members)


class _Archive:
    """An open .npz file and what may still be unpacked of it."""

    def __init__(self, source: str | Path | bytes, told: Told) -> None:
        self.told = told
        if isinstance(source, bytes):
            size = len(source)
        else:
            size = regular_file(Path(source), told)
        self.budget = Budget(size, told)
        with decoding(told):
            self._zip = zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source)
        entries = self._zip.infolist()
        if len(entries) > MOST_MEMBERS:
            self._zip.close()
            raise told.wrong(f"has {len(entries)} members")
        self.members = {e.filename.removesuffix(".npy"): e for e in entries if e.filename.endswith(".npy")}

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *exception: object) -> None:
        self._zip.close()

    def array(self, name: str, kinds: str, finite: bool) -> NDArray:
        """One member, checked."""
        entry, told = self.members[name], self.told.member(name)
        if entry.flag_bits & _ENCRYPTED:
            raise told.wrong("is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise told.wrong(f"is packed in another way (method {entry.compress_type}) than numpy's, stored or deflate")
        if entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
            raise told.wrong("is damaged: its sizes contradict each other")
        self.budget.take(entry.file_size)
        with decoding(told), self._zip.open(entry) as stream:
            return _checked(self._read(stream, entry.file_size, kinds, told), finite, told)

    @staticmethod
    def _read(stream: IO[bytes], size: int, kinds: str, told: Told) -> NDArray:
        header = read_header(stream, size, kinds, told)  # type: ignore[arg-type]
        array = read_body(stream, header, told)  # type: ignore[arg-type]
        if stream.read(1):  # reads to the end, where the sum over all bytes is compared
            raise told.wrong("is longer than it says")
        return array


def _checked(array: NDArray, finite: bool, told: Told) -> NDArray:
    if finite and not all_finite(array):
        raise told.wrong("holds values that are not finite")
    if not characters_exist(array):
        raise told.wrong("holds text of characters that do not exist")
    return array
