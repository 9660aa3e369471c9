"""Opening .npz files of motion: their sizes are looked at before anything is unpacked, pickles are refused."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from posegen.errors import DataError

MAX_UNPACKED_BYTES = 1 << 30


@contextmanager
def motion_archive(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """An open .npz; what goes wrong while it is read becomes a DataError that names the file."""
    try:
        with zipfile.ZipFile(path) as members:
            if sum(member.file_size for member in members.infolist()) > MAX_UNPACKED_BYTES:
                raise DataError(f"the motion file unpacks to more than {MAX_UNPACKED_BYTES >> 30} GB", where=path)
        with np.load(path, allow_pickle=False) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError) as error:
        raise DataError(f"the motion file is cut short or damaged: {error}", where=path) from error
