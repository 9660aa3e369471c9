"""Changes of pickles: of the values, of single opcodes, of the names; and of torch's files, which hold pickles.

Nothing here is an exploit. Names that no data file needs are of modules that do not exist, or of functions that would
do no harm if they were called: `posegen_fuzz.nothing`, `math.sqrt`.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from . import trees
from .format import Mutator, Mutators
from .raw import EDGES, RAW
from .zips import change_directory, change_list, change_member, members, packed

SNIPPETS = (
    b"N", b"(", b"0", b"1", b"2", b"}", b"]", b")", b"e", b"u", b"R", b"b", b"o", b"a", b"s", b"t", b"d", b"l", b".",
    b"\x85", b"\x86", b"\x87", b"\x88", b"\x89", b"\x8f", b"\x90", b"\x91", b"\x92", b"\x93", b"\x81", b"\x94", b"\x97",
    b"\x98", b"K\x00", b"K\xff", b"M\xff\xff", b"J\xff\xff\xff\x7f", b"J\x00\x00\x00\x80", b"\x8a\x08" + b"\xff" * 8,
    b"\x8a\xff" + b"\x7f" * 255, b"\x8b\xff\xff\xff\x7f", b"G\x7f\xf8" + b"\0" * 6, b"G\x7f\xf0" + b"\0" * 6,
    b"X\xff\xff\xff\x7f", b"X\x01\x00\x00\x00a", b"X\x02\x00\x00\x00\xff\xff", b"U\x03abc", b"T\xff\xff\xff\x7f",
    b"C\x03abc",
    b"B\xff\xff\xff\xff", b"\x8d" + b"\xff" * 8, b"\x8e" + b"\xff" * 7 + b"\x7f", b"\x96" + b"\xff" * 7 + b"\x7f",
    b"h\x00",
    b"h\xff", b"j\xff\xff\xff\xff", b"q\x00", b"r\xff\xff\xff\x7f", b"g0\n", b"gx\n", b"p0\n", b"p99999999999\n",
    b"I01\n",
    b"I00\n", b"I" + b"9" * 150 + b"\n", b"Ix\n", b"F1e999\n", b"Fnan\n", b"Fx\n", b"L5L\n", b"S'a'\n", b"S'a\n",
    b"S'\\xff'\n",
    b"V\\ud800\n", b"V\\U99999999\n", b"Pid\n", b"Q", b"\x80\x02", b"\x80\x63", b"\x95" + b"\xff" * 8,
    b"\x95\x00\x00\x00\x00\x00\x00\x00\x00", b"cposegen_fuzz\nnothing\n", b"cmath\nsqrt\n", b"cnumpy\ndtype\n",
    b"cnumpy\nndarray\n", b"ccollections\nOrderedDict\n", b"i__builtin__\nset\n", b"\x82\x01", b"\x84\xff\xff\xff\x7f",
)  # fmt: skip
_NAMES = (
    (b"multiarray", b"umath"), (b"_reconstruct", b"scalar"), (b"scalar", b"_reconstruct"), (b"ndarray", b"matrix"),
    (b"dtype", b"ndarray"), (b"f8", b"O8"), (b"f8", b"V8"), (b"f8", b"M8"), (b"f8", b"f4"), (b"f8", b"U8"), (b"f4",
    b"f8"),
    (b"i8", b"i4"), (b"b1", b"i8"), (b"b1", b"S1"), (b"i8", b"O8"), (b"O8", b"f8"), (b"OrderedDict",
    b"deque\0\0\0\0\0\0"),
    (b"FloatStorage", b"HalfStorage\0"), (b"FloatStorage", b"QInt8Storag\0"), (b"_rebuild_tensor_v2",
    b"_rebuild_parameter"),
)  # fmt: skip


def _loaded(data: bytes) -> Any:
    return pickle.loads(data, encoding="latin1")  # our own sample


def tree_mutator(dump: Callable[[Any, int], bytes] | None = None, sample: Callable[[], Any] | None = None) -> Mutator:
    """Changes a value, and writes it in any protocol.

    Args:
        sample: makes the tree where the file itself cannot be loaded (its classes are not there).
    """

    def change(rng: random.Random, data: bytes) -> bytes:
        tree = sample() if sample is not None else _loaded(data)
        tree = trees.changed(rng, tree)
        protocol = rng.choice((0, 1, 2, 2, 4, 5))
        return dump(tree, protocol) if dump is not None else pickle.dumps(tree, protocol)

    return change


def _spans(data: bytes) -> list[tuple[int, int]]:
    """Where each opcode begins and ends."""
    starts = [at for _, _, at in pickletools.genops(data) if at is not None]
    return list(zip(starts, [*starts[1:], len(data)]))


def change_opcodes(rng: random.Random, data: bytes) -> bytes:
    """Opcodes dropped, doubled, exchanged, put in; most often among the first, which make the containers."""
    spans = _spans(data)
    index = int(rng.random() ** 2 * (len(spans) - 1))
    start, end = spans[index]
    what = rng.randrange(5)
    if what == 0:
        return data[:start] + data[end:]
    if what == 1:
        return data[:end] + data[start:end] * rng.choice((1, 1, 100)) + data[end:]
    if what == 2:
        first, last = spans[rng.randrange(len(spans))]
        return data[:start] + data[first:last] + data[end:]
    if what == 3:
        return data[:start] + rng.choice(SNIPPETS) + data[start:]
    return data[:start] + rng.choice(SNIPPETS) + data[end:]


def change_argument(rng: random.Random, data: bytes) -> bytes:
    """The argument of one opcode: a length, a number, a letter of a name."""
    spans = [(start, end) for start, end in _spans(data) if end - start > 1]
    start, end = rng.choice(spans)
    at = rng.randrange(start + 1, min(end, start + 40))
    width = min(rng.choice((1, 1, 2, 4, 8)), end - at)
    value = rng.choice((*EDGES, rng.randrange(256))) % 256**width
    return data[:at] + value.to_bytes(width, "little") + data[at + width :]


def change_names(rng: random.Random, data: bytes) -> bytes:
    """One name of a class or type for another of the same length."""
    fitting = [(old, new) for old, new in _NAMES if old in data and len(old) == len(new)]
    old, new = rng.choice(fitting)
    at = rng.choice([i for i in range(len(data)) if data.startswith(old, i)][:40])
    return data[:at] + new + data[at + len(old) :]


def nest(rng: random.Random, data: bytes) -> bytes:
    """Depths and lists that unfold to more than memory, built with a few bytes."""
    depth = rng.choice((50, 2000, 60_000))
    start = b"\x80\x02"
    what = rng.randrange(4)
    if what == 0:
        return start + b"]" * depth + b"a" * (depth - 1) + b"."
    if what == 1:
        return start + b")" + b"\x85" * depth + b"."
    if what == 2:
        doubled = b"".join(b"(h" + bytes([i]) + b"h" + bytes([i]) + b"lq" + bytes([i + 1]) for i in range(60))
        return start + b"]q\x00" + doubled + b"."
    return start + b"}X\x01\x00\x00\x00a" + b"}X\x01\x00\x00\x00a" * depth + b"N" + b"s" * (depth + 1) + b"."


OPCODES: tuple[Mutator, ...] = (
    change_opcodes, change_opcodes, change_opcodes, change_argument, change_argument, change_names, nest,
)  # fmt: skip
PICKLE = Mutators((tree_mutator(),), OPCODES)


def _torch_tree(rng: random.Random, data: bytes) -> bytes:
    tree = torch.load(io.BytesIO(data), weights_only=False)  # our own sample
    return torch_saved(torch_tree_changed(rng, tree), rng.random() < 0.3)


def torch_tree_changed(rng: random.Random, tree: Any) -> Any:
    """A tree with tensors: these become arrays, are changed, and become tensors again where torch has their type."""
    return _mapped(
        trees.changed(rng, _mapped(tree, lambda v: v.numpy() if isinstance(v, torch.Tensor) else v)), _tensor
    )


def _mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(tree, dict):
        return {key: _mapped(value, change) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_mapped(value, change) for value in tree]
    return change(tree)


def _tensor(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    try:
        return torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))
    except (TypeError, ValueError):  # texts, objects, other byte orders stay arrays
        return value


def torch_saved(tree: Any, old: bool = False) -> bytes:
    out = io.BytesIO()
    torch.save(tree, out, _use_new_zipfile_serialization=not old)
    return out.getvalue()


def _torch_pickle(rng: random.Random, data: bytes) -> bytes:
    """The pickle in a zip of torch's."""
    parts = members(data)
    name = next(name for name in parts if name.endswith("data.pkl"))
    parts[name] = rng.choice((*OPCODES, *RAW[:6]))(rng, parts[name])
    return packed(list(parts.items()))


def change_old_opcodes(rng: random.Random, data: bytes) -> bytes:
    """One opcode of the fourth pickle of the older layout, which holds the tree; the three before it are short."""
    at = 0
    for _ in range(3):
        at += max(place for _, _, place in pickletools.genops(data[at:]) if place is not None) + 1
    end = at + max(place for _, _, place in pickletools.genops(data[at:]) if place is not None) + 1
    return data[:at] + rng.choice(OPCODES[:6])(rng, data[at:end]) + data[end:]


def _torch_storage(rng: random.Random, data: bytes) -> bytes:
    parts = members(data)
    name = rng.choice([name for name in parts if "/data/" in name or name.endswith("byteorder")])
    content = parts[name]
    parts[name] = rng.choice((content[:-1], content + b"\0", b"", content * 2, b"big", b"\xff" * len(content)))
    return packed(list(parts.items()))


TORCH = Mutators(
    (_torch_tree,), (_torch_pickle, _torch_pickle, _torch_storage, change_list, change_directory, change_member)
)
TORCH_OLD = Mutators((_torch_tree,), (change_old_opcodes,))
