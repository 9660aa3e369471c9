"""Arrays of MATLAB files of version 5 to 7, read without scipy: its reader ends the interpreter on damaged ones.

Format [MATLAB Level 5 MAT-file format, MathWorks]: a header of 128 bytes, then elements, each a tag (type, bytes) and
its data; a variable is an element of type 14 (its flags, dimensions, name, values) or, packed by zlib, one of type 15.
Numbers, logicals and cells of these are read; text, structures and objects are passed over unless asked for.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posegen.errors import DataError
from posegen.files.guard import Budget, Told, decoding, regular_file
from posegen.files.values import finite

_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_MATRIX, _PACKED, _CELL = 14, 15, 1
_OTHER = {2: "a structure", 3: "an object", 4: "text", 5: "a sparse matrix", 16: "a function", 17: "an object"}
_COMPLEX, _LOGICAL = 0x08, 0x02
_HEADER_BYTES = 128
_NAME_BYTES = 1024  # of a packed variable, enough to learn its name
_MOST_DIMS, _MOST_DEPTH = 32, 4
_HDF5 = b"\x89HDF\r\n\x1a\n"


def read_mat(
    path: Path, needed: Sequence[str], what: str, next_command: str | None = None, optional: Collection[str] = ()
) -> dict[str, NDArray]:
    """Variables of a file by name, finite; a cell array is an array of objects that holds arrays.

    Args:
        needed, optional: names of variables; one of `needed` that is not there is an error.
        what: begins errors: what the file should be.

    Raises:
        DataError: where there is no intact file of MATLAB 5 to 7, or it lacks one of `needed`.
    """
    told = Told(what, path, DataError, next_command)
    budget = Budget(regular_file(path, told), told)
    with decoding(told):
        content = path.read_bytes()
    order = _byte_order(content, told)
    found: dict[str, NDArray] = {}
    wanted, seen = {*needed, *optional}, []
    with decoding(told):
        for variable in _variables(content, order, budget, told):
            name = variable.name
            seen.append(name)
            if name in wanted and name not in found:
                found[name] = variable.value()
    if missing := [name for name in needed if name not in found]:
        raise DataError(
            f"{what} lacks {', '.join(missing)} (it has {', '.join(seen[:12]) or 'nothing'})", where=path,
            next_command=next_command,
        )  # fmt: skip
    return found


def _byte_order(content: bytes, told: Told) -> str:
    if content[:8] == _HDF5 or content[512:520] == _HDF5:
        raise told.wrong("is of MATLAB 7.3 (HDF5); older ones are read (save(..., '-v7'))")
    mark = content[126:128]
    if len(content) < _HEADER_BYTES or mark not in (b"IM", b"MI"):
        raise told.wrong("is no file of MATLAB 5 to 7, or is cut short")
    order = "<" if mark == b"IM" else ">"
    (version,) = struct.unpack(order + "H", content[124:126])
    if version != 0x0100:
        raise told.wrong(f"is of version {version >> 8} of MATLAB's format, 1 is read (save(..., '-v7'))")
    return order


@dataclass(frozen=True)
class _Element:
    kind: int
    start: int  # of its data
    end: int
    following: int


def _element(content: bytes, at: int, end: int, order: str, told: Told) -> _Element:
    """The element at a place; it must lie within `end`."""
    if at + 8 > end:
        raise told.wrong("is cut short")
    kind, size = struct.unpack_from(order + "II", content, at)
    if kind >> 16:  # the small form: type and size in four bytes, up to four bytes of data
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise told.wrong("is damaged: a small element of more than four bytes")
        return _Element(kind, at + 4, at + 4 + size, at + 8)
    if at + 8 + size > end:
        raise told.wrong("is cut short")
    padded = size if kind == _PACKED else size + -size % 8
    return _Element(kind, at + 8, at + 8 + size, min(end, at + 8 + padded))


def _variables(content: bytes, order: str, budget: Budget, told: Told) -> Iterator[_Matrix]:
    """The variables in the file's order; a packed one is unpacked as far as its name until its value is asked for."""
    at = _HEADER_BYTES
    while at < len(content):
        element = _element(content, at, len(content), order, told)
        at = element.following
        if element.kind == _MATRIX:
            yield _Matrix(content, element, order, budget, told)
        elif element.kind == _PACKED:
            packed = content[element.start : element.end]
            head = zlib.decompressobj().decompress(packed, _NAME_BYTES)
            if len(head) < 8:
                raise told.wrong("is cut short")
            kind, size = struct.unpack_from(order + "II", head)
            if kind != _MATRIX:
                continue
            yield _Matrix(head, _Element(kind, 8, 8 + size, 8 + size), order, budget, told, packed)


class _Matrix:
    """One variable: its class, dimensions and name are read, its values when asked for."""

    def __init__(
        self, content: bytes, element: _Element, order: str, budget: Budget, told: Told, packed: bytes | None = None
    ) -> None:
        self._content, self._element, self._order = content, element, order
        self._budget, self._packed = budget, packed
        end = min(element.end, len(content))
        flags = _element(content, element.start, end, order, told)
        dims = _element(content, flags.following, end, order, told)
        name = _element(content, dims.following, end, order, told)
        if flags.end - flags.start != 8 or (dims.end - dims.start) % 4 or dims.end - dims.start > 4 * _MOST_DIMS:
            raise told.wrong("is damaged: a variable without flags or dimensions")
        (bits,) = struct.unpack_from(order + "I", content, flags.start)
        self.kind, self.flags = bits & 0xFF, bits >> 8 & 0xFF
        self.shape = tuple(np.frombuffer(content[dims.start : dims.end], order + "i4").tolist())
        if min(self.shape, default=0) < 0:
            raise told.wrong("is damaged: negative dimensions")
        self.name = content[name.start : name.end].decode("latin1")
        self._values_at = name.following
        self.told = told.member(self.name) if self.name else told

    def value(self, depth: int = 0) -> NDArray:
        """The numbers, or a cell array's parts as an array of objects."""
        if self._packed is not None:
            size = self._element.end
            self._budget.take(size)
            self._content, self._packed = zlib.decompressobj().decompress(self._packed, size), None
            if len(self._content) < size:
                raise self.told.wrong("is cut short")
        if self.kind == _CELL:
            return self._cell(depth)
        if self.kind not in _CLASSES or self.flags & _COMPLEX:
            kind = "of complex numbers" if self.flags & _COMPLEX else _OTHER.get(self.kind, f"of class {self.kind}")
            raise self.told.wrong(f"is {kind} where numbers should be")
        return self._numbers()

    def _numbers(self) -> NDArray:
        part = _element(self._content, self._values_at, self._element.end, self._order, self.told)
        count = math.prod(self.shape)
        if part.kind not in _STORED:
            raise self.told.wrong(f"is damaged: values of type {part.kind}")
        stored = np.dtype(self._order + _STORED[part.kind])
        if part.end - part.start != count * stored.itemsize:
            raise self.told.wrong(f"says shape {self.shape}, but holds {part.end - part.start} bytes")
        dtype = np.dtype(np.bool_ if self.flags & _LOGICAL else _CLASSES[self.kind])
        self._budget.take(count * dtype.itemsize)
        array = np.frombuffer(self._content, stored, count, part.start).reshape(self.shape, order="F").astype(dtype)
        if not finite(array):
            raise self.told.wrong("holds values that are not finite")
        return array

    def _cell(self, depth: int) -> NDArray:
        count = math.prod(self.shape)
        if depth >= _MOST_DEPTH:
            raise self.told.wrong("is nested too deeply")
        if count * 8 > self._element.end - self._values_at:  # each part has a tag of eight bytes
            raise self.told.wrong(f"says shape {self.shape}, which its bytes cannot hold")
        parts = np.empty(count, object)
        at = self._values_at
        for index in range(count):
            element = _element(self._content, at, self._element.end, self._order, self.told)
            at = element.following
            if element.kind != _MATRIX:
                raise self.told.wrong("is damaged: a cell that is no array")
            if element.start == element.end:  # an empty cell may be no more than its tag
                parts[index] = np.zeros((0, 0))
                continue
            parts[index] = _Matrix(self._content, element, self._order, self._budget, self.told).value(depth + 1)
        return parts.reshape(self.shape, order="F")
