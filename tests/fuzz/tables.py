"""Changes of HDF5, MATLAB, Parquet and TFLite files by the libraries that write them."""

from __future__ import annotations

import io
import json
import random
import struct
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io

from posegen.shards.intact import BLANK, DIGEST_KEY, seal

from . import trees
from .format import Mutators
from .raw import EDGES, RAW

# HDF5


def change_hdf5(rng: random.Random, data: bytes) -> bytes:
    """One array of another kind, or a link, a group, nothing, or packed in pieces instead."""
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        names = [name for name in file if isinstance(file[name], h5py.Dataset)]
        name = rng.choice(names)
        what = rng.randrange(16)
        array = np.asarray(file[name][()])
        del file[name]
        if what == 0:
            file[rng.choice((name.upper(), name + "_", "x"))] = array
        elif what == 1:
            file[name] = rng.choice(
                (h5py.SoftLink("/nowhere"), h5py.SoftLink(f"/{name}"), h5py.ExternalLink("no.h5", "/a"))
            )
        elif what == 2:
            file.create_group(name)["inside"] = array
        elif what == 3:
            file[name] = h5py.Empty(rng.choice(("f8", "S5", "i4")))
        elif what == 4:
            file[name] = rng.choice(
                ("text", b"bytes", [b"a", b"bc"], np.array([("a", 1)], "S2,i4"), np.zeros(3, "O8,f4"))
            )
        elif what == 5:
            shape = rng.choice(((10**12,), (10**6, 10**6), (2**31, 2), (0,), (0, 5), (1,) * 30))
            file.create_dataset(name, shape, rng.choice(("f8", "u1")), chunks=True)
        elif what == 6:
            dtype = rng.choice(
                (h5py.vlen_dtype(np.float64), h5py.string_dtype(), h5py.ref_dtype, h5py.opaque_dtype("M8[s]"))
            )
            file.create_dataset(name, (max(1, len(array)) if array.ndim else 1,), dtype)
        elif what == 7 and array.ndim:
            chunks = tuple(max(1, min(side, rng.choice((1, 2, 1000)))) for side in array.shape)
            packing: dict[str, Any] = rng.choice(
                ({"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True}, {"fletcher32": True})
            )
            file.create_dataset(name, data=array, chunks=chunks, **packing)
        else:
            changed = trees.array_changed(rng, array)
            file[name] = changed.astype("S") if changed.dtype.kind in "UO" else changed
    return buffer.getvalue()


def hdf5_messages(rng: random.Random, data: bytes) -> bytes:
    """A field near one of the file's own structures: object headers, trees, heaps, symbol tables."""
    marks = [data.find(mark) for mark in (b"TREE", b"HEAP", b"SNOD", b"GCOL", b"OHDR", b"\x89HDF")]
    places = [at for at in marks if at >= 0] + [
        at for at in range(0, len(data) - 16, 8) if data[at] == 1 and data[at + 1] == 0
    ][:200]
    at = rng.choice(places) + rng.randrange(0, 96)
    width = rng.choice((1, 2, 4, 8))
    return data[:at] + (rng.choice(EDGES) % 256**width).to_bytes(width, "little") + data[at + width :]


HDF5 = Mutators((change_hdf5,), (hdf5_messages,))


# MATLAB 5


def change_mat(rng: random.Random, data: bytes) -> bytes:
    """Another value in one variable, or in one part of a cell."""
    tree = {name: value for name, value in scipy.io.loadmat(io.BytesIO(data)).items() if not name.startswith("__")}
    name = rng.choice(list(tree))
    value = tree[name]
    if value.dtype == object and rng.random() < 0.7:
        flat = value.copy().reshape(-1)
        flat[rng.randrange(len(flat))] = trees.array_changed(rng, np.asarray(flat[rng.randrange(len(flat))]))
        tree[name] = flat.reshape(value.shape)
    else:
        tree = {str(key): part for key, part in trees.changed(rng, tree).items() if isinstance(key, str) and key}
    out = io.BytesIO()
    scipy.io.savemat(out, tree, do_compression=rng.random() < 0.4)
    return out.getvalue()


def mat_tags(rng: random.Random, data: bytes) -> bytes:
    """The type or size of an element, its flags, a dimension."""
    tags = [
        at for at in range(128, len(data) - 8, 8)
        if struct.unpack_from("<I", data, at)[0] in (1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14, 15)
    ]  # fmt: skip
    at = rng.choice(tags) + rng.choice((0, 4, 8, 9, 12))
    value = rng.choice((*range(20), *EDGES)) % 2**32
    return data[:at] + value.to_bytes(4, "little") + data[at + 4 :]


MAT = Mutators((change_mat,), (mat_tags,))


# Parquet


def _table(data: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(data))


def _written(rng: random.Random, table: pa.Table) -> bytes:
    """A Parquet file; one that carries a digest of itself gets a right one, so that what is wrong lies deeper."""
    metadata = dict(table.schema.metadata or {})
    if DIGEST_KEY in metadata and rng.random() < 0.9:
        table = table.replace_schema_metadata({**metadata, DIGEST_KEY: BLANK})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=rng.choice(("zstd", "snappy", "none", "gzip")))
    return resealed(sink.getvalue().to_pybytes())


def resealed(data: bytes) -> bytes:
    """The file with its own digest made right again, where it has a place for one."""
    at = data.rfind(DIGEST_KEY + b"\x18\x40")
    if at < 0:
        return data
    start = at + len(DIGEST_KEY) + 2
    return seal(data[:start] + BLANK + data[start + 64 :])


def change_table(rng: random.Random, data: bytes) -> bytes:
    """Columns dropped, renamed, doubled, of other types; rows dropped, doubled, empty; cells empty or no number."""
    table = _table(data)
    index = rng.randrange(table.num_columns)
    name, column = table.column_names[index], table.column(index)
    what = rng.randrange(10)
    if what == 0:
        table = table.drop_columns([name])
    elif what == 1:
        names = list(table.column_names)
        names[index] = rng.choice((name + "_", "", names[0], "é"))
        table = table.rename_columns(names)
    elif what == 2:
        table = table.append_column(rng.choice((name, "extra")), column)
    elif what == 3:
        table = rng.choice((table.slice(0, 0), table.slice(1), pa.concat_tables([table, table])))
    elif what == 4:
        kinds = (pa.float64(), pa.float32(), pa.int32(), pa.int64(), pa.string(), pa.binary(), pa.float16(), pa.bool_())
        table = table.set_column(index, name, pa.nulls(len(table), rng.choice(kinds)))
    elif what == 5:
        value = rng.choice((float("nan"), float("inf"), -1, 2**31 - 1, "text", b"\x89PNG", [1.0], {"a": 1}, None, True))
        table = table.set_column(index, name, pa.array([value] * len(table)))
    elif what in (6, 7):
        table = table.set_column(index, name, _cells_changed(rng, column))
    elif what == 8:
        table = table.set_column(
            index, name, pa.array([[[float(i)]] * rng.choice((0, 1, 3)) for i in range(len(table))])
        )
    else:
        return change_metadata(rng, data)
    return _written(rng, table)


def _cells_changed(rng: random.Random, column: pa.ChunkedArray) -> pa.Array:
    """A number, a text or an empty cell among the values of a column, of whatever nesting."""
    array = column.combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    kind = array.type
    storage = array.storage if isinstance(array, pa.ExtensionArray) else array
    if pa.types.is_fixed_size_list(storage.type):
        flat = storage.flatten().to_numpy(zero_copy_only=False).copy()
        if flat.dtype.kind == "f":
            flat[rng.randrange(len(flat))] = rng.choice((np.nan, np.inf, 1e38, -1e38, 0.0))
        else:
            flat[rng.randrange(len(flat))] = rng.choice((0, 1, 255))
        storage = pa.FixedSizeListArray.from_arrays(pa.array(flat, storage.type.value_type), storage.type.list_size)
    else:
        values = storage.to_pylist()
        values[rng.randrange(len(values))] = rng.choice(
            (None, values[0], type(values[0])() if values[0] is not None else None)
        )
        storage = pa.array(values, storage.type)
    return pa.ExtensionArray.from_storage(kind, storage) if isinstance(array, pa.ExtensionArray) else storage


def change_metadata(rng: random.Random, data: bytes) -> bytes:
    """A value of the file's own metadata: versions, encodings, headers in JSON."""
    table = _table(data)
    metadata = dict(table.schema.metadata or {})
    key = rng.choice(list(metadata))
    value = metadata[key]
    if value.startswith(b"{") and rng.random() < 0.8:
        metadata[key] = json.dumps(trees.changed(rng, json.loads(value), plain=True)).encode("utf-8", "surrogatepass")
    else:
        metadata[key] = rng.choice(
            (b"", b"2", b"99999999999", b"-1", b"png", b"raw", b"\xff", b"{}", b"[" * 5000, value + b"0", value * 2)
        )
    if rng.random() < 0.2:
        del metadata[key]
    return _written(rng, table.replace_schema_metadata(metadata))


def footer(rng: random.Random, data: bytes) -> bytes:
    """A byte of the footer, or its length; a shard's own digest is made right again."""
    (length,) = struct.unpack("<I", data[-8:-4])
    at = len(data) - 8 - length + rng.randrange(length + 4)
    new = data[:at] + bytes([rng.choice((0, 1, 127, 128, 255, data[at] ^ 1, data[at] ^ 128))]) + data[at + 1 :]
    return resealed(new)


def pages(rng: random.Random, data: bytes) -> bytes:
    """Some bytes of the columns' pages; a shard's own digest is made right again."""
    return resealed(rng.choice(RAW[:8])(rng, data))


PARQUET = Mutators((change_table, change_table, change_table, change_metadata), (footer, pages))


# TFLite


def tflite_numbers(rng: random.Random, data: bytes) -> bytes:
    """An offset, a length or an enumeration of the flatbuffer's tables, which lie before and behind the constants."""
    reach = min(len(data), 4096)
    at = rng.randrange(0, reach - 8)
    if rng.random() < 0.5:
        at = len(data) - reach + at
    at -= at % rng.choice((1, 2, 4))
    width = rng.choice((1, 2, 4))
    old = int.from_bytes(data[at : at + width], "little")
    value = rng.choice((*EDGES, old + 1, old - 1, old + 4, old - 4)) % 256**width
    return data[:at] + value.to_bytes(width, "little") + data[at + width :]


TFLITE = Mutators((), (tflite_numbers,))
