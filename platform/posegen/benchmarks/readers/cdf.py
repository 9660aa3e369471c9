"""Reads one variable of a NASA CDF file, version 3: the format of Human3.6M's pose files.

Written from the public format description (CDF Internal Format Description, version 3). A file is a chain of
big-endian records: CDR -> GDR -> linked list of variable descriptors (VDR) -> index records (VXR) -> values (VVR),
which may be gzip-compressed (CVVR), as may the whole file be (magic 0xCCCC0001).
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posegen.errors import DataError

_MAGIC, _PLAIN, _COMPRESSED = (0xCDF30001, 0xCDF26002), 0x0000FFFF, 0xCCCC0001
_VXR, _VVR, _CVVR = 6, 7, 13
_GZIP = 5
_TYPES = {1: "i1", 2: "i2", 4: "i4", 8: "i8", 11: "u1", 12: "u2", 14: "u4", 21: "f4", 22: "f8", 44: "f4", 45: "f8"}
_LITTLE = (4, 6, 13, 14, 16, 17)  # encodings whose numbers are little-endian (DEC, IBM PC and relatives)


def read_variable(path: Path, name: str) -> NDArray:
    """The values of a variable (records, *dimensions). DataError where the file is no CDF or lacks it."""
    try:
        return _File(path.read_bytes(), path).variable(name)
    except FileNotFoundError:
        raise DataError("there is no such CDF file", where=path) from None
    except (struct.error, IndexError, ValueError, OSError, zlib.error, EOFError) as error:
        raise DataError(f"the CDF file is cut short or damaged: {error}", where=path) from error


class _File:
    def __init__(self, content: bytes, path: Path) -> None:
        self.path = path
        magic, kind = struct.unpack_from(">II", content, 0)
        if magic not in _MAGIC or kind not in (_PLAIN, _COMPRESSED):
            raise DataError("the file is no CDF of version 3", where=path)
        if kind == _COMPRESSED:
            # CCR: size (8), type (4), CPR offset (8), uncompressed size (8), reserved (4), data
            (size,) = struct.unpack_from(">q", content, 8)
            content = content[:8] + gzip.decompress(content[8 + 32 : 8 + size])
        self.content = content
        _, _, self.gdr, _, _, encoding, self.flags = struct.unpack_from(">qiqiiii", content, 8)
        self.order = "<" if encoding in _LITTLE else ">"

    def variable(self, name: str) -> NDArray:
        r_head, z_head = struct.unpack_from(">qq", self.content, self.gdr + 12)
        r_dims = struct.unpack_from(">i", self.content, self.gdr + 12 + 32 + 12)[0]
        r_sizes = struct.unpack_from(f">{r_dims}i", self.content, self.gdr + 84)
        names = []
        for head, is_z in ((z_head, True), (r_head, False)):
            offset = head
            while offset:
                following, found = self._descriptor(offset)
                names.append(found)
                if found == name:
                    return self._values(offset, is_z, r_sizes)
                offset = following
        raise DataError(f"the CDF file has no variable {name!r}", where=self.path, choices=names)

    def _descriptor(self, offset: int) -> tuple[int, str]:
        (following,) = struct.unpack_from(">q", self.content, offset + 12)
        return following, self.content[offset + 84 : offset + 340].split(b"\0")[0].decode("ascii")

    def _values(self, offset: int, is_z: bool, r_sizes: tuple[int, ...]) -> NDArray:
        kind, last, vxr = struct.unpack_from(">iiq", self.content, offset + 20)
        elements, _, _, _ = struct.unpack_from(">iiqi", self.content, offset + 64)
        place = offset + 340
        if is_z:
            (number,) = struct.unpack_from(">i", self.content, place)
            sizes = struct.unpack_from(f">{number}i", self.content, place + 4)
            place += 4 + 4 * number
        else:
            sizes = r_sizes
        varies = struct.unpack_from(f">{len(sizes)}i", self.content, place)
        shape = tuple(size for size, vary in zip(sizes, varies, strict=True) if vary)
        if kind not in _TYPES or elements != 1:
            raise DataError(f"the variable is of type {kind}, only numbers are read", where=self.path)
        dtype = np.dtype(self.order + _TYPES[kind])
        out = np.zeros((last + 1, math.prod(shape)), dtype)
        self._fill(out, vxr, dtype)
        row_major = bool(self.flags & 1)
        values = out.reshape(last + 1, *(shape if row_major else shape[::-1]))
        if not row_major:
            values = values.transpose(0, *range(values.ndim - 1, 0, -1))
        return np.ascontiguousarray(values).astype(dtype.newbyteorder("="))

    def _fill(self, out: NDArray, vxr: int, dtype: np.dtype) -> None:
        while vxr:
            following, entries, used = struct.unpack_from(">qii", self.content, vxr + 12)
            base = vxr + 28
            first = struct.unpack_from(f">{entries}i", self.content, base)
            last = struct.unpack_from(f">{entries}i", self.content, base + 4 * entries)
            offsets = struct.unpack_from(f">{entries}q", self.content, base + 8 * entries)
            for i in range(used):
                size, kind = struct.unpack_from(">qi", self.content, offsets[i])
                if kind == _VXR:
                    self._fill(out, offsets[i], dtype)
                    continue
                if kind == _VVR:
                    raw = self.content[offsets[i] + 12 : offsets[i] + size]
                elif kind == _CVVR:
                    (packed,) = struct.unpack_from(">q", self.content, offsets[i] + 16)
                    raw = gzip.decompress(self.content[offsets[i] + 24 : offsets[i] + 24 + packed])
                else:
                    raise DataError(f"record of type {kind} where values should be", where=self.path)
                rows = last[i] - first[i] + 1
                out[first[i] : last[i] + 1] = np.frombuffer(raw, dtype, rows * out.shape[1]).reshape(rows, -1)
            vxr = following
