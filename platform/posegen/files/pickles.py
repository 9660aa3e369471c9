"""Reads pickles of arrays, and of the scipy, chumpy and pandas objects of data files, without running anything in them.

A pickle is a program: it may name any function and call it. Here its steps are written down by a machine of ours
(pickle_machine.py), and the values made afterwards by makers of ours (array_records.py, body_records.py) from plain
bytes and numbers. A file that names anything else is refused, by that name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from posegen.errors import DataError
from posegen.files.array_records import ARRAYS
from posegen.files.body_records import BODIES
from posegen.files.pickle_machine import PickleMachine
from posegen.files.recorded import Budget, Makers, Resolver

MAX_FILE_BYTES = 8 * 2**30


def read_bytes(path: Path, longest: int = MAX_FILE_BYTES) -> bytes:
    """A file's bytes. DataError where it is not there, no plain file, or too large."""
    try:
        if not path.is_file():
            raise DataError("there is no such file" if not path.exists() else "this is no plain file", where=path)
        size = path.stat().st_size
        if size > longest:
            raise DataError(f"the file has {size / 2**30:.1f} GiB, at most {longest / 2**30:.0f} are read", where=path)
        with path.open("rb") as file:
            return file.read(size)  # more would be allocated before it is known to be there
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=path) from error


def load_pickle(path: Path | str, extra: Makers | None = None) -> Any:
    """The contents of a pickle that holds only containers, numbers, text and arrays (of objects: as nested lists).

    Args:
        path: a file written by Python 2 or 3 (text of Python 2 is read as latin1).
        extra: makers for more names, for formats that need them.

    Raises DataError, naming what the file asks for, when it is not among them, and when it is damaged.
    """
    path = Path(path)
    data = read_bytes(path)
    makers = {**ARRAYS, **BODIES, **(extra or {})}

    def read() -> Any:
        machine = PickleMachine(data, makers)
        return Resolver(makers, Budget(len(data))).resolve(machine.run())

    return placed(path, read)


def placed(path: Path, read: Callable[[], Any]) -> Any:
    """What a function returns; a DataError of it that does not say where is of this file."""
    try:
        return read()
    except DataError as error:
        if error.where is not None:
            raise
        raise DataError(error.what, where=path, choices=error.choices, next_command=error.next_command) from error
