"""Writes CDF files of one float variable, version 3, by the format description."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np


def write_cdf(path: Path, name: str, values: np.ndarray, column_major: bool = True, packed: bool = False) -> None:
    """values (records, *dimensions) float32; MATLAB's files are column-major."""
    order = range(values.ndim - 1, 0, -1) if column_major else range(1, values.ndim)
    data = np.ascontiguousarray(values.transpose(0, *order)).astype("<f4").tobytes()
    cdr_at, cdr_size, gdr_size = 8, 312, 84
    gdr_at = cdr_at + cdr_size
    dims = values.shape[1:]
    vdr_at, vdr_size = gdr_at + gdr_size, 344 + 8 * len(dims)
    vxr_at, vxr_size = vdr_at + vdr_size, 28 + 16
    vvr_at = vxr_at + vxr_size
    if packed:
        body = gzip.compress(data)
        vvr = struct.pack(">qiiq", 24 + len(body), 13, 0, len(body)) + body
    else:
        vvr = struct.pack(">qi", 12 + len(data), 7) + data
    end = vvr_at + len(vvr)
    flags = 2 | (0 if column_major else 1)
    cdr = struct.pack(">qiqiiiiiiiii", cdr_size, 1, gdr_at, 3, 8, 6, flags, 0, 0, 0, 2, -1) + b"\0" * 256
    gdr = struct.pack(">qiqqqqiiiiiqiii", gdr_size, 2, 0, vdr_at, 0, end, 0, 0, -1, 0, 1, 0, 0, -1, -1)
    vdr = struct.pack(">qiqiiqqiiiii", vdr_size, 8, 0, 44, len(values) - 1, vxr_at, vxr_at, 1, 0, -1, -1, -1)
    vdr += struct.pack(">iiqi", 1, 0, -1, 0) + name.encode().ljust(256, b"\0")
    vdr += struct.pack(f">i{len(dims)}i{len(dims)}i", len(dims), *dims, *([-1] * len(dims)))
    vxr = struct.pack(">qiqiiiiq", vxr_size, 6, 0, 1, 1, 0, len(values) - 1, vvr_at)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(">II", 0xCDF30001, 0x0000FFFF) + cdr + gdr + vdr + vxr + vvr)
