"""Reads one variable of a NASA CDF file, version 3: the format of Human3.6M's pose files.

Written from the public format description (CDF Internal Format Description, version 3). A file is a chain of
big-endian records: CDR -> GDR -> linked list of variable descriptors (VDR) -> index records (VXR) -> values (VVR),
which may be gzip-compressed (CVVR), as may the whole file be (magic 0xCCCC0001). cdflib reads the same, but
believes declared sizes and follows chains that lead back to themselves; so this stays.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posegen.errors import DataError
from posegen.files.guard import Budget, Told, decoding, regular_file
from posegen.files.values import finite

_MAGIC, _PLAIN, _COMPRESSED = (0xCDF30001, 0xCDF26002), 0x0000FFFF, 0xCCCC0001
_VXR, _VVR, _CVVR = 6, 7, 13
_TYPES = {1: "i1", 2: "i2", 4: "i4", 8: "i8", 11: "u1", 12: "u2", 14: "u4", 21: "f4", 22: "f8", 44: "f4", 45: "f8"}
_LITTLE = (4, 6, 13, 14, 16, 17)  # encodings whose numbers are little-endian (DEC, IBM PC and relatives)
_MOST_DIMS, _MOST_DEPTH = 16, 8
_GZIP_WINDOW = 31  # zlib's number for gzip's header around deflate


def read_variable(path: Path, name: str) -> NDArray:
    """The values of a variable (records, *dimensions), finite. DataError where the file is no CDF or lacks it."""
    told = Told("the CDF file", path)
    budget = Budget(regular_file(path, told), told)
    with decoding(told):
        values = _File(path.read_bytes(), budget, told).variable(name)
    if not finite(values):
        raise told.member(name).wrong("holds values that are not finite")
    return values


def _unzipped(packed: bytes, size: int) -> bytes:
    """At most `size` bytes of a gzip stream."""
    return zlib.decompressobj(_GZIP_WINDOW).decompress(packed, max(1, size))


class _File:
    def __init__(self, content: bytes, budget: Budget, told: Told) -> None:
        self.told, self.budget, self.content = told, budget, content
        magic, kind = self._at(">II", 0)
        if magic not in _MAGIC or kind not in (_PLAIN, _COMPRESSED):
            raise told.wrong("is no CDF of version 3")
        if kind == _COMPRESSED:
            # CCR: size (8), type (4), CPR offset (8), uncompressed size (8), reserved (4), data
            size, _, _, unpacked = self._at(">qiqq", 8)
            budget.take(unpacked)
            self.content = content[:8] + _unzipped(content[8 + 32 : 8 + size], unpacked)
        _, _, self.gdr, _, _, encoding, self.flags = self._at(">qiqiiii", 8)
        self.order = "<" if encoding in _LITTLE else ">"

    def _at(self, layout: str, offset: int) -> tuple[int, ...]:
        """Numbers of a record; struct alone would count negative offsets from the end."""
        if not 0 <= offset <= len(self.content):
            raise self.told.wrong("is damaged: it points outside of itself")
        return struct.unpack_from(layout, self.content, offset)

    def variable(self, name: str) -> NDArray:
        r_head, z_head = self._at(">qq", self.gdr + 12)
        (r_dims,) = self._at(">i", self.gdr + 12 + 32 + 12)
        r_sizes = self._sizes(self.gdr + 84, r_dims)
        names = []
        for head, is_z in ((z_head, True), (r_head, False)):
            offset, seen = head, set()
            while offset:
                if offset in seen:
                    raise self.told.wrong("is damaged: its list of variables leads back to itself")
                seen.add(offset)
                (following,) = self._at(">q", offset + 12)
                found = self.content[offset + 84 : offset + 340].split(b"\0")[0].decode("latin1")
                names.append(found)
                if found == name:
                    return self._values(offset, is_z, r_sizes)
                offset = following
        raise DataError(f"the CDF file has no variable {name!r}", where=self.told.where, choices=names[:20])

    def _sizes(self, offset: int, number: int) -> tuple[int, ...]:
        if not 0 <= number <= _MOST_DIMS:
            raise self.told.wrong(f"is damaged: {number} dimensions")
        return self._at(f">{number}i", offset)

    def _values(self, offset: int, is_z: bool, r_sizes: tuple[int, ...]) -> NDArray:
        kind, last, vxr = self._at(">iiq", offset + 20)
        elements, _, _, _ = self._at(">iiqi", offset + 64)
        place = offset + 340
        if is_z:
            (number,) = self._at(">i", place)
            sizes = self._sizes(place + 4, number)
            place += 4 + 4 * number
        else:
            sizes = r_sizes
        varies = self._at(f">{len(sizes)}i", place)
        shape = tuple(size for size, vary in zip(sizes, varies, strict=True) if vary)
        if kind not in _TYPES or elements != 1:
            raise self.told.wrong(f"holds a variable of type {kind}, only numbers are read")
        if last < -1 or min(shape, default=0) < 0:
            raise self.told.wrong("is damaged: negative dimensions")
        dtype = np.dtype(self.order + _TYPES[kind])
        self.budget.take((last + 1) * math.prod(shape) * dtype.itemsize)
        out = np.zeros((last + 1, math.prod(shape)), dtype)
        filled = np.zeros(last + 1, bool)
        self._fill(out, filled, vxr, set())
        if not filled.all():
            raise self.told.wrong(f"is damaged: {int((~filled).sum())} of {last + 1} records are missing")
        row_major = bool(self.flags & 1)
        values = out.reshape(last + 1, *(shape if row_major else shape[::-1]))
        if not row_major:
            values = values.transpose(0, *range(values.ndim - 1, 0, -1))
        return np.ascontiguousarray(values).astype(dtype.newbyteorder("="))

    def _fill(self, out: NDArray, filled: NDArray, vxr: int, seen: set[int], depth: int = 0) -> None:
        """Puts the records that an index, and those below it, point to into their rows."""
        while vxr:
            if vxr in seen or depth > _MOST_DEPTH:
                raise self.told.wrong("is damaged: its index leads back to itself")
            seen.add(vxr)
            following, entries, used = self._at(">qii", vxr + 12)
            if not 0 <= used <= entries <= len(self.content) // 16:
                raise self.told.wrong("is damaged: an index of impossible length")
            base = vxr + 28
            first = self._at(f">{entries}i", base)
            last = self._at(f">{entries}i", base + 4 * entries)
            offsets = self._at(f">{entries}q", base + 8 * entries)
            for i in range(used):
                size, kind = self._at(">qi", offsets[i])
                if kind == _VXR:
                    self._fill(out, filled, offsets[i], seen, depth + 1)
                    continue
                if not 0 <= first[i] <= last[i] < len(out) or filled[first[i] : last[i] + 1].any():
                    raise self.told.wrong("is damaged: records out of place")
                rows = slice(first[i], last[i] + 1)
                out[rows] = self._records(offsets[i], size, kind, out[rows].nbytes, out.dtype).reshape(out[rows].shape)
                filled[rows] = True
            vxr = following

    def _records(self, offset: int, size: int, kind: int, wanted: int, dtype: np.dtype) -> NDArray:
        if kind == _VVR:
            raw = self.content[offset + 12 : offset + size]
        elif kind == _CVVR:
            (packed,) = self._at(">q", offset + 16)
            raw = _unzipped(self.content[offset + 24 : offset + 24 + max(0, packed)], wanted)
        else:
            raise self.told.wrong(f"is damaged: a record of type {kind} where values should be")
        if len(raw) < wanted:
            raise self.told.wrong("is cut short")
        return np.frombuffer(raw, dtype, wanted // dtype.itemsize)
