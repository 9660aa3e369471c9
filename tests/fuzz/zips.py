"""Changes of zip archives, of numpy's files in them and of plain .npy files."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from . import trees
from .format import Mutators
from .raw import EDGES, RAW

_SHAPES = ("()", "(0,)", "(1,)", "(-1,)", "(1000000000000,)", "(4294967296, 4294967296)", "(0, 1000000000000)", "(3",
"(1.5,)",
           "(True,)", "(" * 60 + ")" * 60, "(1,)*9", "(" + "1," * 40 + ")")  # fmt: skip
_DESCRS = ("'<f8'", "'>f8'", "'|O'", "'<U9999999'", "'|V8'", "'<M8[s]'", "[('a', '<f8')]", "'f'", "''", "'<f3'",
"'<c16'",
           "'|b1'", "'|S0'", "'<f16'", "('<f8', (2,))", "'a,b'", "None", "'<i9'")  # fmt: skip


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def packed(parts: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in parts:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def change_values(rng: random.Random, data: bytes) -> bytes:
    """One array of an .npz of another kind or shape, missing, or under another name."""
    with np.load(io.BytesIO(data), allow_pickle=True) as archive:  # our own file, or a change of it by this module
        tree = {name: archive[name] for name in archive.files}
    tree = trees.changed(rng, tree)
    out = io.BytesIO()
    (np.savez_compressed if rng.random() < 0.3 else np.savez)(out, **{str(k): np.asarray(v) for k, v in tree.items()})
    return out.getvalue()


def change_header(rng: random.Random, data: bytes) -> bytes:
    """One member's .npy header says something else than its bytes."""
    parts = list(members(data).items())
    index = rng.randrange(len(parts))
    parts[index] = (parts[index][0], npy_header(rng, parts[index][1]))
    return packed(parts)


def npy_header(rng: random.Random, content: bytes) -> bytes:
    """An .npy file with one thing of its header changed."""
    (length,) = struct.unpack("<H", content[8:10])
    header, body = content[10 : 10 + length].decode("latin1"), content[10 + length :]
    what = rng.randrange(6)
    if what == 0:
        start = header.index("'shape':") + 8
        header = header[:start] + " " + rng.choice(_SHAPES) + ", }"
    elif what == 1:
        start, end = header.index("'descr':") + 8, header.index(", 'fortran")
        header = header[:start] + " " + rng.choice(_DESCRS) + header[end:]
    elif what == 2:
        header = header.replace("False", rng.choice(("True", "None", "1", "'yes'", "fortran")))
    elif what == 3:
        header = rng.choice(
            ("", "{", "{}", "[]", "{'shape': ()}", header * 2, "{" * 5000, "(" * 3000, header[:-9], "\0")
        )
    elif what == 4:
        body = rng.choice((body[:-1], body + b"\0", b"", body * 2))
    else:
        head = bytearray(content[:10])
        head[rng.randrange(10)] = rng.choice((0, 1, 2, 3, 4, 128, 255))
        return bytes(head) + content[10:]
    text = header.encode("latin1", "replace")
    return content[:8] + struct.pack("<H", len(text) % 65536) + text + body


def change_member(
    rng: random.Random, data: bytes, change: Callable[[random.Random, bytes], bytes] | None = None
) -> bytes:
    """One member's bytes, whose sum is right again."""
    parts = list(members(data).items())
    index = rng.randrange(len(parts))
    name, content = parts[index]
    parts[index] = (name, (change or rng.choice(RAW))(rng, content))
    return packed(parts, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def change_list(rng: random.Random, data: bytes) -> bytes:
    """Members dropped, doubled, renamed, packed in other ways, or of contents that are no array."""
    parts = list(members(data).items())
    index = rng.randrange(len(parts))
    name, content = parts[index]
    what = rng.randrange(6)
    if what == 0:
        del parts[index]
    elif what == 1:
        parts.append((name, rng.choice(parts)[1]))
    elif what == 2:
        parts[index] = (
            rng.choice(("../x.npy", "/abs.npy", "", "x", name + "/", name.upper(), "é.npy", name[:-4])),
            content,
        )
    elif what == 3:
        parts[index] = (name, rng.choice((b"", b"text", b"PK\x03\x04", b"\x80\x04N.", b"\0" * 100_000)))
    elif what == 4:
        parts += [(f"more{i}.npy", content) for i in range(rng.choice((1, 200)))]
    else:
        return packed(parts, rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)))
    return packed(parts)


def change_directory(rng: random.Random, data: bytes) -> bytes:
    """A field of the archive's own records: sizes, offsets, sums, methods, flags, counts."""
    places = [at for mark in (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06") for at in _found(data, mark)]
    at = rng.choice(places) + rng.randrange(4, 46)
    width = rng.choice((1, 2, 4))
    value = rng.choice((*EDGES, 12, 14, 98, 99)) % 256**width
    return data[:at] + value.to_bytes(width, "little") + data[at + width :]


def _found(data: bytes, mark: bytes) -> list[int]:
    places, at = [], data.find(mark)
    while at >= 0:
        places.append(at)
        at = data.find(mark, at + 1)
    return places


def npy_values(rng: random.Random, data: bytes) -> bytes:
    """Another array in a plain .npy file."""
    array: Any = np.load(io.BytesIO(data), allow_pickle=True)
    out = io.BytesIO()
    np.save(out, trees.array_changed(rng, np.asarray(array)))
    return out.getvalue()


NPZ = Mutators((change_values,), (change_header, change_header, change_member, change_list, change_directory))
NPY = Mutators((npy_values,), (npy_header,))
