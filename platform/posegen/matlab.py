"""Reads MATLAB files up to version 7."""

from __future__ import annotations

import zlib
from pathlib import Path

from numpy.typing import NDArray

from posegen.errors import DataError

HDF5_VERSION = 2  # as scipy counts: MATLAB 7.3, which is HDF5


def read_mat(path: Path, wanted: str, next_command: str | None = None) -> dict[str, NDArray]:
    """The variables of a file by name.

    Args:
        wanted: begins the error's sentence: what the file is not.

    Raises:
        DataError: where there is no intact file of MATLAB 4 to 7.
    """
    import scipy.io
    from scipy.io.matlab import MatReadError, matfile_version

    try:
        version, _ = matfile_version(path)
        if version != HDF5_VERSION:
            return scipy.io.loadmat(path)
    except (OSError, ValueError, TypeError, IndexError, zlib.error, MatReadError) as error:
        raise DataError(f"{wanted}: {error}", where=path, next_command=next_command) from error
    raise DataError(
        f"{wanted}: it is of MATLAB 7.3 (HDF5); older ones are read (save(..., '-v7'))", where=path,
        next_command=next_command,
    )  # fmt: skip
