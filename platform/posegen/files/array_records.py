"""Arrays, scalars and containers from what a pickle recorded of them.

numpy's own constructors believe the state they are given: shapes without bytes, dtypes with flags of their own, object
pointers. Here an array is made from bytes whose number fits its shape and a dtype of plain numbers or text; the dtype
is made by us from its code and byte order, never from a state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.errors import DataError
from posegen.files.recorded import Call, Maker, Name, check_key
from posegen.files.values import characters_exist

_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16)}
_MAX_TEXT = 2**20  # bytes of one text in an array
MAX_DIMENSIONS = 32
_ORDERS: dict[str, Any] = {"<": "<", ">": ">", "|": "|", "=": "<"}


@dataclass(frozen=True)
class Dtype:
    """A dtype of numbers or text; `dtype` is None for Python objects."""

    dtype: np.dtype | None


@dataclass(frozen=True)
class Record:
    """Something whose contents are not needed, as it stood in the file: harmless, since nothing of it was run."""

    name: Name
    args: tuple[Any, ...]
    state: Any


def make_dtype(call: Call) -> Dtype:
    """numpy.dtype(code, align, copy) with the state (version, byte order, subdtype, names, fields, size, align, flags).

    Of the state only the byte order is taken, and the rest must be that of a plain dtype."""
    code = call.args[0] if call.args else None
    if type(code) is not str or not 2 <= len(code) <= 10 or not code[1:].isascii() or not code[1:].isdigit():
        raise DataError(f"the pickle holds an array of type {str(code)[:40]!r}: only numbers and text are read")
    kind, size = code[0], int(code[1:])
    order: Any = "|"
    if call.state is not None:
        state = call.state
        if type(state) is not tuple or len(state) < 5 or type(state[0]) is not int or not 1 <= state[0] <= 4:
            raise DataError("an array's type in the pickle has a state of an unknown layout")
        order = _ORDERS.get(state[1], "") if type(state[1]) is str else ""
        if not order or any(part is not None for part in state[2:5]):
            raise DataError("the pickle holds an array of records: only numbers and text are read")
    if kind == "O":
        return Dtype(None)
    item = 4 * size if kind == "U" else size
    if size not in _SIZES.get(kind, ()) and not (kind in "SUa" and 0 < item <= _MAX_TEXT):
        raise DataError(f"the pickle holds an array of type {code!r}: only numbers and text are read")
    return Dtype(np.dtype(("S" if kind == "a" else kind) + str(size)).newbyteorder("<" if order == "|" else order))


def checked_shape(shape: Any) -> tuple[int, ...]:
    """A shape of whole numbers whose product is no larger than memory can be."""
    if type(shape) is int:
        shape = (shape,)
    if type(shape) not in (tuple, list) or len(shape) > MAX_DIMENSIONS:
        raise DataError("an array in the pickle has a shape of an unknown layout")
    if not all(type(n) is int and 0 <= n < 2**40 for n in shape) or math.prod(n for n in shape if n) >= 2**40:
        raise DataError(f"an array in the pickle has the impossible shape {str(tuple(shape))[:80]}")
    return tuple(shape)


def array_of_bytes(call: Call, raw: Any, dtype: np.dtype, shape: tuple[int, ...], fortran: bool) -> NDArray:
    """An array of its own memory, native byte order; the bytes must be as many as the shape says."""
    if type(raw) is str:  # the bytes of a Python 2 pickle
        try:
            raw = raw.encode("latin1")
        except UnicodeEncodeError as error:
            raise DataError("the bytes of an array in the pickle are damaged") from error
    if type(raw) is not bytes:
        raise DataError(f"an array in the pickle holds a {type(raw).__name__} instead of bytes")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise DataError(f"an array in the pickle has {len(raw)} bytes for shape {shape} of {dtype}")
    call.budget.charge(len(raw) + 64)
    flat = np.frombuffer(raw, np.uint8) != 0 if dtype.kind == "b" else np.frombuffer(raw, dtype)
    if not characters_exist(flat):
        raise DataError("an array in the pickle holds text of characters that do not exist")
    return flat.reshape(shape, order="F" if fortran else "C").astype(dtype.newbyteorder("="), order="K", copy=True)


def make_array(call: Call) -> Any:
    """numpy's _reconstruct(ndarray, (0,), 'b') with the state (version, shape, dtype, Fortran order, contents).

    An array of Python objects becomes (nested) lists."""
    if not call.args or call.args[0] != Name("numpy", "ndarray"):
        raise DataError(f"the pickle asks for an array of class {str(call.args[0] if call.args else None)[:80]}")
    state = call.state
    if type(state) is tuple and len(state) == 4:  # the layout before versions were numbered
        state = (0, *state)
    if type(state) is not tuple or len(state) != 5 or type(state[2]) is not Dtype:
        raise DataError("an array in the pickle has a state of an unknown layout")
    _, shape, kind, fortran, content = state
    shape = checked_shape(shape)
    if kind.dtype is not None:
        return array_of_bytes(call, content, kind.dtype, shape, bool(fortran))
    if type(content) is not list or math.prod(shape) != len(content):
        raise DataError("an array of objects in the pickle has another number of objects than its shape says")
    call.budget.charge(8 * len(content))
    return nested(content, shape)


def nested(items: list[Any], shape: tuple[int, ...]) -> Any:
    """Nested lists of a shape from the items in C order; the item itself for no dimension."""
    if not shape:
        return items[0]
    if len(shape) == 1 or not items:
        return items
    step = len(items) // shape[0]
    return [nested(items[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def make_scalar(call: Call) -> Any:
    if len(call.args) != 2 or type(call.args[0]) is not Dtype or call.args[0].dtype is None:
        raise DataError("the pickle asks for a scalar that holds Python objects")
    return array_of_bytes(call, call.args[1], call.args[0].dtype, (), False)[()]


def make_from_buffer(call: Call) -> NDArray:
    """numpy's _frombuffer(bytes, dtype, shape, order, axes) of protocol 5."""
    if len(call.args) not in (4, 5) or type(call.args[1]) is not Dtype or call.args[1].dtype is None:
        raise DataError("an array in the pickle has arguments of an unknown layout")
    raw, kind, shape, order = call.args[:4]
    axes = call.args[4] if len(call.args) == 5 else None
    array = array_of_bytes(call, raw, kind.dtype, checked_shape(shape), order == "F")
    if order != "K" or axes is None:
        return array
    if type(axes) is not tuple or sorted(map(repr, axes)) != sorted(map(repr, range(array.ndim))):
        raise DataError("an array in the pickle has axes of an unknown order")
    return array.transpose(axes)


def make_encoded(call: Call) -> bytes:
    """codecs.encode as protocol 2 pickles of Python 3 use it for bytes."""
    if len(call.args) != 2 or type(call.args[0]) is not str or call.args[1] not in ("latin1", "latin-1"):
        raise DataError("the pickle asks for bytes in a text encoding other than latin1")
    call.budget.charge(len(call.args[0]))
    try:
        return call.args[0].encode("latin1")
    except UnicodeEncodeError as error:
        raise DataError("bytes in the pickle are damaged") from error


def make_bytes(call: Call) -> bytes:
    """bytes() and bytearray() of nothing, bytes or latin1 text; never of a number, which would be a length."""
    first = call.args[0] if call.args else b""
    if type(first) is str and call.args[1:] in (("latin-1",), ("latin1",)):
        return make_encoded(call)
    if type(first) is not bytes or len(call.args) > 1:
        raise DataError(f"the pickle asks for bytes of a {type(first).__name__}")
    return first


def make_set(call: Call) -> set[Any]:
    members = call.args[0] if call.args else []
    if len(call.args) > 1 or type(members) not in (list, tuple, set, frozenset):
        raise DataError("the pickle asks for a set of an unknown layout")
    call.budget.charge(16 * len(members))
    return {check_key(member) for member in members}


def make_dict(call: Call) -> dict[Any, Any]:
    """collections.OrderedDict and its relatives as a plain dictionary, which keeps the order, too."""
    made: dict[Any, Any] = {}
    for given in call.args:
        pairs = list(given.items()) if type(given) is dict else given if type(given) is list else []
        call.budget.charge(16 * len(pairs))
        for pair in pairs:
            if type(pair) not in (list, tuple) or len(pair) != 2:
                raise DataError("the pickle asks for a dictionary of an unknown layout")
            made[check_key(pair[0])] = pair[1]
    made.update(call.items)
    return made


def make_complex(call: Call) -> complex:
    if len(call.args) != 2 or not all(type(part) in (int, float) and abs(part) < 2**1023 for part in call.args):
        raise DataError("the pickle asks for a complex number of an unknown layout")
    return complex(float(call.args[0]), float(call.args[1]))


def make_slice(call: Call) -> slice:
    whole = all(part is None or (type(part) is int and abs(part) < 2**40) for part in call.args)
    if len(call.args) != 3 or not whole or call.args[2] == 0:
        raise DataError("the pickle asks for a slice of an unknown layout")
    return slice(*call.args)


def make_record(call: Call) -> Record:
    return Record(call.name, call.args, call.state)


def _named(module: str, makers: dict[str, Callable[[Call], Any] | None]) -> dict[Name, Maker | None]:
    return {Name(module, name): maker for name, maker in makers.items()}


_BUILTINS: dict[str, Callable[[Call], Any] | None] = {
    "set": make_set, "frozenset": make_set, "bytes": make_bytes, "bytearray": make_bytes, "complex": make_complex,
    "slice": make_slice, "object": None, "list": None, "dict": None, "int": None, "float": None,
}  # fmt: skip
ARRAYS: dict[Name, Maker | None] = {
    **_named("numpy", {"ndarray": None, "dtype": make_dtype}),
    **_named("builtins", _BUILTINS),
    **_named("__builtin__", _BUILTINS),
    **_named("_codecs", {"encode": make_encoded}),
    **_named("collections", {"OrderedDict": make_dict, "defaultdict": make_dict, "Counter": make_dict}),
    **_named("argparse", {"Namespace": make_record}),
    # The machine takes objects of protocols 0 and 1 apart itself; the names only have to be known.
    **_named("copy_reg", {"_reconstructor": None}),
    **_named("copyreg", {"_reconstructor": None}),
}
for _core in ("numpy.core", "numpy._core"):
    ARRAYS |= _named(f"{_core}.multiarray", {"_reconstruct": make_array, "scalar": make_scalar})
    ARRAYS |= _named(f"{_core}.numeric", {"_frombuffer": make_from_buffer})
