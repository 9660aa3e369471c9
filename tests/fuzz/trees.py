"""Changes of values: containers, arrays, numbers and texts of other kinds, shapes, lengths, names.

A tree is what JSON, YAML, pickles, npz and MATLAB files hold: dicts, lists, numpy arrays, numbers, texts.
"""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np

TEXTS = ("", "x", "m", "nan", "../up", "a/b", "\0", "é", "\ud800", "%s%n", "x" * 70_000, "1e999", "True", "-1", "١")
NUMBERS = (
    0, 1, -1, 2, 24, 255, 65536, 2**31, -(2**31) - 1, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**30, 0.5, -0.0, 1e-320,
    1e30, 1e39, 1e300, -1e308, float("nan"), float("inf"), float("-inf"), True, False,
)  # fmt: skip
_DTYPES = (
    "f2",
    "f4",
    "f8",
    "i1",
    "i4",
    "i8",
    "u1",
    "u8",
    "?",
    ">f4",
    ">f8",
    "c16",
    "O",
    "U5",
    "S5",
    "M8[s]",
    "V8",
    "g",
)


def changed(rng: random.Random, tree: Any, plain: bool = False) -> Any:
    """A copy of a tree with one place changed.

    Args:
        plain: whether arrays and bytes may not come in (JSON, YAML).
    """
    tree = copy.deepcopy(tree)
    places = _places(tree)
    if not places:
        return _other(rng, tree, plain)
    holder, key = places[int(rng.random() ** 1.3 * len(places))]  # nearer to the top more often: these are the names
    if isinstance(holder, dict) and rng.random() < 0.3:
        _change_keys(rng, holder, key, plain)
    elif isinstance(holder, list) and rng.random() < 0.4:
        _change_items(rng, holder, key)
    else:
        holder[key] = _other(rng, holder[key], plain)
    return tree


def _places(tree: Any, depth: int = 0) -> list[tuple[Any, Any]]:
    """Everywhere that something can be put, from the top down; of long lists the first and the last few."""
    if depth > 12:
        return []
    keys: list[Any] = []
    if isinstance(tree, dict):
        keys = list(tree)
    elif isinstance(tree, list):
        keys = [*range(min(6, len(tree))), *range(max(6, len(tree) - 2), len(tree))]
    found = [(tree, key) for key in keys]
    for key in keys:
        found += _places(tree[key], depth + 1)
    return found


def _change_keys(rng: random.Random, holder: dict[Any, Any], key: Any, plain: bool) -> None:
    what = rng.randrange(5)
    if what == 0:
        del holder[key]
    elif what == 1:
        holder[str(key) + rng.choice(("_", "s", " ", "\0"))] = holder.pop(key)
    elif what == 2:
        holder[rng.choice(list(holder))] = holder[key]
    elif what == 3:
        holder[rng.choice(("extra", "", *TEXTS[:6]))] = rng.choice(NUMBERS)
    elif not plain:
        holder[rng.choice((None, 1, 1.5, True, b"x", (1, 2)))] = holder.pop(key)
    else:
        holder.pop(key)


def _change_items(rng: random.Random, holder: list[Any], key: int) -> None:
    what = rng.randrange(5)
    if what == 0:
        del holder[key]
    elif what == 1:
        holder.insert(key, copy.deepcopy(holder[key]))
    elif what == 2:
        rng.shuffle(holder)
    elif what == 3:
        holder *= rng.choice((0, 2, 40))
    else:
        del holder[rng.randrange(len(holder)) :]


def _other(rng: random.Random, value: Any, plain: bool) -> Any:
    """Something else than a value, often of nearly its kind."""
    if isinstance(value, np.ndarray) and rng.random() < 0.9:
        return array_changed(rng, value)
    if isinstance(value, bool | int | float | np.number) and rng.random() < 0.7:
        return rng.choice(NUMBERS)
    if isinstance(value, str) and rng.random() < 0.6:
        return rng.choice((*TEXTS, value.upper(), value[:-1], value + "x"))
    if isinstance(value, dict | list) and value and rng.random() < 0.4:
        return rng.choice(([], {}, [value], {"a": value}, list(value)))
    choices = [None, *NUMBERS, *TEXTS, [], {}, [[]], [None], {"a": 1}, [1, [2, [3]]], _nested(rng)]
    if not plain:
        choices += [
            b"",
            b"\xff\xfe",
            (),
            (1,),
            1j,
            {1, 2},
            np.zeros((0,)),
            np.float64(np.nan),
            np.array("text"),
            np.array(3.5),
        ]
    return rng.choice(choices)


def _nested(rng: random.Random) -> list[Any]:
    value: list[Any] = []
    for _ in range(rng.choice((3, 30, 80, 200))):
        value = [value]
    return value


def array_changed(rng: random.Random, array: np.ndarray) -> np.ndarray:
    """Another shape, dtype, length, order or content."""
    what = rng.randrange(13)
    if what == 0:
        return array.reshape(-1)
    if what == 1:
        return array[None] if rng.random() < 0.5 else array[..., None]
    if what == 2:
        return array.T
    if what == 3 and array.ndim:
        return array[: rng.choice((0, 1, max(0, len(array) - 1)))]
    if what == 4 and array.ndim:
        return np.concatenate([array, array[: rng.choice((1, len(array)))]])
    if what in (5, 6):
        return _cast(rng, array)
    if what in (7, 8, 9) and array.dtype.kind == "f" and array.size:
        out = array.copy()
        bad = rng.choice((np.nan, np.inf, -np.inf, 1e300, -1e38, 1e39, 0.0, 1e-310, 1e6))
        with np.errstate(all="ignore"):
            if rng.random() < 0.3:
                out[...] = bad
            else:
                out.reshape(-1)[rng.randrange(out.size)] = bad
        return out
    if what == 10 and array.dtype.kind in "iu" and array.size:
        out = array.copy()
        limits = np.iinfo(array.dtype)
        out.reshape(-1)[rng.randrange(out.size)] = rng.choice((limits.min, limits.max, 0, 1))
        return out
    if what == 11:
        return np.array(rng.choice((0, 1.5, -1, "text", b"b", True, None, np.nan, 2**63)))
    if what == 12 and array.ndim:
        return np.asfortranarray(array[..., : rng.choice((0, 1, 2, 7))])
    return np.zeros(rng.choice(((), (0,), (1,), (0, 3), (1, 0, 2), (2, 2), (1,) * 12, array.shape[::-1])), array.dtype)


def _cast(rng: random.Random, array: np.ndarray) -> np.ndarray:
    dtype = rng.choice(_DTYPES)
    with np.errstate(all="ignore"):
        if dtype.startswith(("M", "V")):
            return np.zeros(array.shape, dtype)
        return array.astype(dtype)
