"""What a Parquet file's footer declares, read from its bytes: how many rows, and how large each column unfolds to.

pyarrow can be asked the same (`metadata.row_group(i).column(j)`), but ends the interpreter where a column's statistics
contradict its type: its C++ exception is caught by nobody. Reading the table itself raises as it should.

Format: parquet.thrift (FileMetaData, RowGroup, ColumnChunk, ColumnMetaData) in Thrift's compact protocol.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

MAGIC = b"PAR1"
MOST_VALUES, MOST_DEPTH = 2_000_000, 12  # of a footer
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_WHOLE = (4, 5, 6)  # of 16, 32, 64 bits: variable length, zigzag
_ROWS, _GROUPS = 3, 4  # FileMetaData
_COLUMNS, _GROUP_BYTES, _GROUP_ROWS = 1, 2, 3  # RowGroup
_OTHER_FILE, _META = 1, 3  # ColumnChunk
_VALUES, _UNPACKED, _PACKED = 5, 6, 7  # ColumnMetaData


@dataclass(frozen=True)
class Footer:
    """Sums over all row groups and columns."""

    rows: int
    unpacked_bytes: int  # what the columns unfold to
    packed_bytes: int
    values: int  # of all columns


def read_footer(data: memoryview | bytes) -> Footer:
    """The footer of a whole file. ValueError where it is damaged, negative, or of columns in other files."""
    view = memoryview(data)
    if len(view) < 12 or view[-4:] != MAGIC or view[:4] != MAGIC:
        raise ValueError("it is no Parquet file, or cut short")
    (length,) = struct.unpack("<I", view[-8:-4])
    if length > len(view) - 12:
        raise ValueError("its footer is longer than the file")
    try:
        meta = _Reader(bytes(view[len(view) - 8 - length : len(view) - 8])).struct(0)
    except IndexError as error:
        raise ValueError("its footer is cut short") from error
    rows, unpacked, packed, values = _whole(meta, _ROWS), 0, 0, 0
    for group in _structs(meta, _GROUPS):
        _whole(group, _GROUP_ROWS)
        columns = 0
        for column in _structs(group, _COLUMNS):
            if column.get(_OTHER_FILE):
                raise ValueError("a column of it lies in another file")
            sizes = column.get(_META)
            if not isinstance(sizes, dict):
                raise ValueError("its footer lacks the sizes of a column")
            values += _whole(sizes, _VALUES)
            columns += _whole(sizes, _UNPACKED)
            packed += _whole(sizes, _PACKED)
        unpacked += max(columns, _whole(group, _GROUP_BYTES))
    return Footer(rows, unpacked, packed, values)


def _whole(fields: dict[int, Any], name: int) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("its footer declares a negative size, or none")
    return value


def _structs(fields: dict[int, Any], name: int) -> list[dict[int, Any]]:
    found = fields.get(name)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError("its footer lists no columns")
    return found


class _Reader:
    """Thrift's compact protocol: structs as dictionaries by field number. IndexError where it ends too soon."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.left = data, 0, MOST_VALUES

    def byte(self) -> int:
        value = self.data[self.at]
        self.at += 1
        return value

    def varint(self) -> int:
        value = shift = 0
        while True:
            part = self.byte()
            value |= (part & 0x7F) << shift
            if not part & 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("its footer holds an endless number")

    def zigzag(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def struct(self, depth: int) -> dict[int, Any]:
        if depth > MOST_DEPTH:
            raise ValueError("its footer is nested too deeply")
        found: dict[int, Any] = {}
        field = 0
        while head := self.byte():
            field = field + (head >> 4) if head >> 4 else self.zigzag()
            kind = head & 0x0F
            found[field] = kind == _TRUE if kind in (_TRUE, _FALSE) else self.value(kind, depth)
        return found

    def value(self, kind: int, depth: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ValueError("its footer holds more values than any has")
        if kind in _WHOLE:
            return self.zigzag()
        if kind in (_TRUE, _FALSE, _BYTE):  # within lists, booleans take a byte
            return self.byte()
        if kind == _DOUBLE:
            return self.skipped(8)
        if kind == _BINARY:
            return self.skipped(self.varint())
        if kind in (_LIST, _SET):
            head = self.byte()
            count = head >> 4 if head >> 4 != 15 else self.varint()
            return [self.value(head & 0x0F, depth + 1) for _ in self.counted(count)]
        if kind == _MAP:
            count = self.varint()
            kinds = self.byte() if count else 0
            return [(self.value(kinds >> 4, depth + 1), self.value(kinds & 15, depth + 1)) for _ in self.counted(count)]
        if kind == _STRUCT:
            return self.struct(depth + 1)
        raise ValueError(f"its footer holds a value of an unknown kind ({kind})")

    def counted(self, count: int) -> range:
        if count > len(self.data) - self.at:  # each takes a byte at least
            raise IndexError
        return range(count)

    def skipped(self, count: int) -> bytes:
        """Bytes of which only whether there are any matters."""
        if count > len(self.data) - self.at:
            raise IndexError
        self.at += count
        return self.data[self.at - count : self.at]
