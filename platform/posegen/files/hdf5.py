"""HDF5 files (also MATLAB 7.3): plain arrays that lie in the file itself.

HDF5 can lead anywhere: links into other files of the machine (or into a pipe that never answers), arrays whose bytes
are in other files, filters that are loaded as programs. Only hard links are followed, only arrays that are stored here
are read, and shapes and chunks are compared with what the file can hold before memory is taken.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.errors import DataError, PosegenError
from posegen.files.guard import SMALL_BYTES, Budget, MiB, Told, decoding, regular_file
from posegen.files.npy import NUMBERS
from posegen.files.values import finite as all_finite

MOST_CHUNK_BYTES, MOST_ROW_BYTES = 256 * MiB, 512 * MiB
INDEX_BYTES = 8  # the least that the file's index spends on each piece of an array
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
# HDF5 lets a packed piece unfold as far as it goes, whatever its size should be. Deflate's limit is 1032 to 1.
_DEFLATE, _DEFLATE_RATIO = 1, 1032
SUSPECT_BYTES = SMALL_BYTES // _DEFLATE_RATIO
_SHOWN = 12


class Hdf5File:
    """An open file. Use as a context; every method raises the promised error for what is not plain.

    Args:
        what: begins errors: "the labels".
    """

    def __init__(
        self, path: str | Path, what: str = "the HDF5 file", *, error: type[PosegenError] = DataError,
        next_command: str | None = None,
    ) -> None:  # fmt: skip
        import h5py

        self.told = Told(what, path, error, next_command)
        self._bytes = regular_file(Path(path), self.told)
        self._budget = Budget(self._bytes, self.told)
        if not h5py.is_hdf5(path):
            raise self.told.wrong("is no HDF5 file (as MATLAB v7.3 files are), or is cut short")
        with decoding(self.told):
            self._file = h5py.File(path, "r")

    def __enter__(self) -> Hdf5File:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def names(self) -> list[str]:
        """The names at the top."""
        with decoding(self.told):
            return [str(name) for name in self._file]

    def __contains__(self, name: str) -> bool:
        with decoding(self.told):
            return bool(self._file.id.links.exists(name.encode()))

    def require(self, names: Sequence[str]) -> None:
        """The error that lists what is missing, if any of the names is."""
        if missing := [name for name in names if name not in self]:
            have = ", ".join(self.names()[:_SHOWN]) or "nothing"
            raise self.told.error(
                f"{self.told.what} lacks {', '.join(missing)} (it has {have})", where=self.told.where, choices=names,
                next_command=self.told.next_command,
            )  # fmt: skip

    def array(self, name: str, finite: bool = True) -> NDArray:
        """A whole array of numbers."""
        return self._whole(self._dataset(name), self.told.member(name), finite)

    def rows(self, name: str) -> Rows:
        """An array of numbers, of which rows are read one by one."""
        dataset, told = self._dataset(name), self.told.member(name)
        _check_numbers(dataset, told)
        return Rows(dataset, told)

    def references(self, name: str) -> NDArray:
        """An array of references to other arrays of the file, as MATLAB's cells are stored; see `followed`."""
        import h5py

        dataset, told = self._dataset(name), self.told.member(name)
        with decoding(told):
            if h5py.check_ref_dtype(dataset.dtype) is not h5py.Reference:
                raise told.wrong("is no array of references (a MATLAB cell array)")
            self._budget.take(math.prod(dataset.shape or ()) * dataset.dtype.itemsize)
            return np.asarray(dataset[()])

    def followed(self, reference: Any, name: str, finite: bool = True) -> NDArray:
        """The array that a reference names; `name` is for errors."""
        told = self.told.member(name)
        with decoding(told):
            if not reference:
                raise told.wrong("is a reference to nothing")
            dataset = self._file[reference]
        return self._whole(_plain(dataset, told, self._bytes), told, finite)

    def _dataset(self, name: str) -> Any:
        import h5py

        told = self.told.member(name)
        with decoding(told):
            if not self._file.id.links.exists(name.encode()):
                raise told.wrong("is missing")
            if self._file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
                raise told.wrong("is a link to elsewhere, which is not followed")
            dataset = self._file[name]
        return _plain(dataset, told, self._bytes)

    def _whole(self, dataset: Any, told: Told, finite: bool) -> NDArray:
        _check_numbers(dataset, told)
        with decoding(told):
            self._budget.take(math.prod(dataset.shape) * dataset.dtype.itemsize)
            array = np.asarray(dataset[()])
        if finite and not all_finite(array):
            raise told.wrong("holds values that are not finite")
        return array


class Rows:
    """An array of which one row is read at a time."""

    def __init__(self, dataset: Any, told: Told) -> None:
        self.shape: tuple[int, ...] = dataset.shape
        self._dataset, self._told = dataset, told
        if not self.shape or math.prod(self.shape[1:]) * dataset.dtype.itemsize > MOST_ROW_BYTES:
            raise told.wrong(f"has shape {self.shape}")

    def __getitem__(self, row: int) -> NDArray:
        with decoding(self._told):
            return np.asarray(self._dataset[row])


def _plain(dataset: Any, told: Told, file_bytes: int) -> Any:
    """The data set, if it is one whose bytes lie in this file, in chunks of a sane size, without foreign filters."""
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        raise told.wrong("is a group where an array should be")
    with decoding(told):
        plan = dataset.id.get_create_plist()
        # Before anything asks for the shape: for a virtual data set that opens the other files.
        if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
            raise told.wrong("is stored in other files, which are not opened")
        filters = [plan.get_filter(i)[0] for i in range(plan.get_nfilters())]
        if filters.count(_DEFLATE) > 1:
            raise told.wrong("is packed twice")
        if foreign := [code for code in filters if code not in _FILTERS]:
            raise told.wrong(f"is packed by filter {foreign[0]}; known are {', '.join(_FILTERS.values())}")
        if dataset.shape is None:
            raise told.wrong("is empty")
        item = dataset.id.get_type().get_size()
        chunk = math.prod(plan.get_chunk()) * item if plan.get_layout() == h5py.h5d.CHUNKED else 0
        if chunk > MOST_CHUNK_BYTES:
            raise told.wrong(f"is stored in pieces of {chunk // MiB} MB")
        if chunk:
            pieces = math.prod(-(-side // step) for side, step in zip(dataset.shape, plan.get_chunk(), strict=True))
            if pieces > max(64, file_bytes // INDEX_BYTES):  # a minute goes by while HDF5 finds that they are not there
                raise told.wrong(f"says that it is stored in {pieces} pieces, more than the file can hold")
            if _DEFLATE in filters:
                _check_packed(dataset, chunk, told)
    return dataset


def _check_packed(dataset: Any, chunk_bytes: int, told: Told) -> None:
    """Unpacks, within bounds, the pieces that are large enough to be bombs, before HDF5 does so without any."""
    suspects: list[tuple[int, ...]] = []

    def look(piece: Any) -> None:
        if piece.size > SUSPECT_BYTES:
            suspects.append(piece.chunk_offset)

    dataset.id.chunk_iter(look)
    for offset in suspects:
        skipped, packed = dataset.id.read_direct_chunk(offset)
        if not skipped:
            unpacked = zlib.decompressobj().decompress(packed, chunk_bytes + 64)  # a sum of four bytes may follow
            if len(unpacked) > chunk_bytes + 4:
                raise told.wrong(f"holds a piece that would unfold to more than its {chunk_bytes} bytes")


def _check_numbers(dataset: Any, told: Told) -> None:
    """Refuses text, references, records and lists of unequal length before numpy is asked to make them."""
    import h5py

    with decoding(told):
        kind = dataset.id.get_type().get_class()
        boolean = kind == h5py.h5t.ENUM and dataset.dtype == np.bool_
        if kind not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT) and not boolean:
            raise told.wrong("holds no numbers")
        if dataset.dtype.kind not in NUMBERS:
            raise told.wrong(f"is of type {dataset.dtype} where numbers should be")
