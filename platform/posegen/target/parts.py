"""What is done so far of a long work on a target: files that are named by all that they depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posegen.errors import DataError
from posegen.files.atomic import replacing
from posegen.target.readers.opening import open_arrays


def part_path(folder: Path, words: Sequence[str], numbers: NDArray) -> Path:
    """The file of a part that depends on these words and numbers."""
    sha = hashlib.sha256("\n".join(words).encode())
    sha.update(np.ascontiguousarray(numbers).tobytes())
    return folder / f"{sha.hexdigest()[:20]}.npz"


def identity(picture: str) -> str:
    """Changes when the picture does."""
    try:
        told = Path(picture).stat()
    except (OSError, ValueError):  # ValueError: a zero byte in its name
        return picture
    return f"{picture} {told.st_size} {told.st_mtime_ns}"


def read_part(path: Path, keys: tuple[str, ...]) -> dict[str, NDArray] | None:
    """The arrays of a part; None where it is not there or damaged, such as on a machine that lost power."""
    if not path.is_file():
        return None
    try:
        found = open_arrays(path, keys)
    except DataError:
        return None
    return found if set(found) == set(keys) else None


def write_part(path: Path, arrays: dict[str, NDArray]) -> None:
    """Keeps a part. Raises DataError where it cannot."""
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise DataError(f"what is done so far cannot be kept: {error.strerror or error}", where=path) from error
