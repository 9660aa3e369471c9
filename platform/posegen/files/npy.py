"""The header of numpy's own files, read without numpy: its reader evaluates text and believes the shape.

Format [numpy.lib.format]: magic, version (2 bytes), length of the header (2 or 4 bytes, little-endian), the text of a
dictionary with `descr`, `fortran_order`, `shape`, then the array's bytes. A header is read here by pattern; plain
arrays of numbers or text only: no objects (pickles), records, dates, nested types.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from posegen.files.guard import Told

MAGIC = b"\x93NUMPY"
MOST_HEADER, MOST_DIMS, MOST_TEXT_BYTES = 1 << 16, 32, 1 << 18
NUMBERS, TEXT = "biuf", "SU"
_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8)}  # no float of 16 bytes: torch has none
_ENTRY = re.compile(
    r"""\s*(['"])(descr|fortran_order|shape)\1\s*:\s*(?:(['"])([^'"]{1,24})\3|(True|False)|\(([0-9L,\s]*)\))\s*(,|(?=\}))"""
)
_DESCR = re.compile(r"([<>|=]?)([a-zA-Z])([0-9]{0,7})")
_PIECE = 1 << 20


@dataclass(frozen=True)
class NpyHeader:
    """What a file says of its array, checked for what numpy could make of it."""

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran_order: bool
    data_at: int  # bytes before the array's

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def data_bytes(self) -> int:
        return self.count * self.dtype.itemsize


def read_header(stream: BinaryIO, total_bytes: int, kinds: str, told: Told) -> NpyHeader:
    """The header at a stream's start.

    Args:
        total_bytes: of the file or member: header and array must fill it exactly.
        kinds: numpy's letters of the kinds that are taken, of NUMBERS and TEXT.
    """
    start = stream.read(8)
    if len(start) < 8 or start[:6] != MAGIC:
        raise told.wrong("is no array of numpy's")
    if start[6] not in (1, 2, 3) or start[7] != 0:
        raise told.wrong(f"is of version {start[6]}.{start[7]} of numpy's format, 1.0 to 3.0 are read")
    width = 2 if start[6] == 1 else 4
    length_bytes = stream.read(width)
    if len(length_bytes) < width:
        raise told.wrong("is cut short")
    (length,) = struct.unpack("<H" if width == 2 else "<I", length_bytes)
    if length > MOST_HEADER:
        raise told.wrong(f"has a header of {length} bytes")
    text = stream.read(length)
    if len(text) < length:
        raise told.wrong("is cut short")
    dtype, fortran_order, shape = _parsed(text, kinds, told)
    header = NpyHeader(dtype, shape, fortran_order, 8 + width + length)
    if header.data_at + header.data_bytes != total_bytes:
        held = max(0, total_bytes - header.data_at)
        raise told.wrong(f"says shape {_short(shape)} of {dtype.itemsize} bytes each, but holds {held} bytes")
    return header


def _parsed(content: bytes, kinds: str, told: Told) -> tuple[np.dtype, bool, tuple[int, ...]]:
    text = content.decode("latin1").strip()
    found: dict[str, str] = {}
    position = 1
    while text.startswith("{") and (match := _ENTRY.match(text, position)):
        given = [value for value in match.group(4, 5, 6) if value is not None]
        found[match[2]] = given[0]
        position = match.end()
    if text[position:].strip() != "}" or set(found) != {"descr", "fortran_order", "shape"}:
        raise told.wrong("is no plain array: its header is damaged, or it holds records")
    if found["fortran_order"] not in ("True", "False"):
        raise told.wrong("has a damaged header")
    sizes = [size.strip().rstrip("L") for size in found["shape"].split(",")]
    sizes = sizes[:-1] if sizes[-1] == "" else sizes  # "(3,)" and "()"
    if len(sizes) > MOST_DIMS or not all(size.isdigit() and len(size) < 19 for size in sizes):
        raise told.wrong("has a damaged header: its shape is none")
    return _dtype(found["descr"], kinds, told), found["fortran_order"] == "True", tuple(map(int, sizes))


def _dtype(descr: str, kinds: str, told: Told) -> np.dtype:
    match = _DESCR.fullmatch("|b1" if descr == "?" else descr)
    if match is None:
        raise told.wrong(f"is of an unknown type {descr!r}")
    order, kind, digits = match.groups()
    size = int(digits or 0)
    if kind == "O":
        raise told.wrong("holds Python objects (a pickle), which are never loaded")
    if kind not in kinds:
        wanted = "text" if set(kinds) <= set(TEXT) else "numbers"
        raise told.wrong(f"is of type {descr!r} where {wanted} should be")
    if kind in TEXT:
        if size * (4 if kind == "U" else 1) > MOST_TEXT_BYTES:
            raise told.wrong(f"holds texts of {size} characters")
    elif size not in _SIZES[kind]:
        raise told.wrong(f"is of an unknown type {descr!r}")
    try:
        return np.dtype(f"{order}{kind}{size}")
    except TypeError as error:  # a float of 16 bytes where the machine has none
        raise told.wrong(f"is of a type that this machine has not: {descr!r}") from error


def read_body(stream: BinaryIO, header: NpyHeader, told: Told) -> NDArray:
    """The array after its header, in C order and the machine's byte order; filled piece by piece."""
    flat = np.empty(header.count, header.dtype)
    into, at = flat.view(np.uint8).data if header.data_bytes else memoryview(b""), 0
    while at < header.data_bytes:
        piece = stream.read(min(_PIECE, header.data_bytes - at))
        if not piece:
            raise told.wrong("is cut short")
        into[at : at + len(piece)] = piece
        at += len(piece)
    return shaped(flat, header)


def shaped(flat: NDArray, header: NpyHeader) -> NDArray:
    """The flat array in its shape, in the machine's byte order."""
    if header.fortran_order:
        flat = flat.reshape(header.shape[::-1]).transpose()
    native = header.dtype.newbyteorder("=")
    return flat.reshape(header.shape).astype(native, copy=False)


def _short(shape: tuple[int, ...]) -> str:
    return str(shape) if len(shape) <= 6 else f"with {len(shape)} dimensions"
