"""Pickled pandas tables without pandas: from what the file records of them (posegen.files.pickles).

Makers take the place of pandas' classes and keep only what a table is made of: blocks of values, the columns they
belong to, and the column names. They know the layouts of pandas 1.0 (a state tuple) to 3 (blocks as arguments, text as
Arrow buffers), so that a table reads the same whatever pandas is installed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from posegen.errors import DataError
from posegen.files.array_records import make_record
from posegen.files.numbers import array_of, text_of
from posegen.files.pickles import load_pickle, placed
from posegen.files.recorded import Budget, Call, Maker, Name
from posegen.files.values import whole_number

MAX_ROWS = 10_000_000


@dataclass(frozen=True)
class _Labels:
    """A pandas Index of any class, or a column of text: its values."""

    values: list[Any] | range


@dataclass(frozen=True)
class _Block:
    """Values of some columns, and which ones."""

    values: Any
    placement: Any


@dataclass(frozen=True)
class _Manager:
    blocks: list[_Block]
    axes: list[Any]


@dataclass(frozen=True)
class _Table:
    manager: _Manager


def _unknown(what: str = "the table is of a layout of pandas that is not known") -> DataError:
    return DataError(what)


def _as_list(value: Any, budget: Budget) -> list[Any] | range:
    """Labels, an array's first axis, or a list. What is made anew is charged."""
    if isinstance(value, _Labels):
        return value.values
    if isinstance(value, list):
        return value
    if isinstance(value, tuple | set | frozenset) or (isinstance(value, np.ndarray) and value.ndim):
        budget.charge(40 * (value.size if isinstance(value, np.ndarray) else len(value)))
        return value.tolist() if isinstance(value, np.ndarray) else list(value)
    raise _unknown(f"the table has a {type(value).__name__} where a list belongs")


def _index(call: Call) -> _Labels:
    """pandas' _new_Index(class, state)."""
    state = call.args[1] if len(call.args) == 2 else None
    if type(state) is not dict or type(call.args[0]) is not Name:
        raise _unknown()
    if call.args[0].name == "RangeIndex" or "start" in state:
        given = (state.get("start") or 0, state.get("stop"), state.get("step") or 1)
        start, stop, step = (whole_number(value, "a table's rows", None, low=-(2**53)) for value in given)
        rows = range(start, stop, step or 1)
        if len(range(0, abs(stop - start), abs(rows.step))) > MAX_ROWS:
            raise DataError(f"the table claims more than {MAX_ROWS:,} rows")
        return _Labels(rows)
    return _Labels(_as_list(state.get("data", []), call.budget))


def _text(call: Call) -> _Labels:
    """A column of text backed by Arrow buffers (pandas ArrowStringArray); `_pa_array` holds the values."""
    if type(call.state) is not dict:
        raise _unknown()
    return _Labels(_as_list(call.state.get("_pa_array", call.state.get("_data", [])), call.budget))


def _block(call: Call) -> _Block:
    if len(call.args) < 2:
        raise _unknown()
    return _Block(call.args[0], call.args[1])


def _manager(call: Call) -> _Manager:
    state = call.state
    if isinstance(state, tuple) and len(state) >= 4 and isinstance(state[3], dict) and "0.14.1" in state[3]:
        content = state[3]["0.14.1"]
        if not isinstance(content, dict) or not {"axes", "blocks"} <= set(content):
            raise _unknown()
        blocks = list(_as_list(content["blocks"], call.budget))
        if not all(isinstance(block, dict) and {"values", "mgr_locs"} <= set(block) for block in blocks):
            raise _unknown()
        made = [_Block(block["values"], block["mgr_locs"]) for block in blocks]
        return _Manager(made, list(_as_list(content["axes"], call.budget)))
    if len(call.args) < 2:
        raise _unknown()
    return _Manager(*(list(_as_list(part, call.budget)) for part in call.args[:2]))


def _frame(call: Call) -> _Table:
    state = call.state
    manager = state.get("_mgr", state.get("_data")) if isinstance(state, dict) else None
    if not isinstance(manager, _Manager):
        raise _unknown()
    return _Table(manager)


def columns(table: _Table, budget: Budget) -> dict[str, list[Any]]:
    """Column name -> values, in the table's order."""
    axes, blocks = table.manager.axes, table.manager.blocks
    if len(axes) < 2 or not all(isinstance(block, _Block) for block in blocks):
        raise _unknown()
    names = [text_of(name, "a column's name") for name in _as_list(axes[0], budget)]
    rows, found = len(_as_list(axes[1], budget)), {}
    for block in blocks:
        values = block.values
        if isinstance(values, _Labels) or (isinstance(values, np.ndarray) and values.ndim == 1):
            values = [values]
        values, places = _as_list(values, budget), _places(block.placement, len(names))
        if len(values) != len(places):
            raise DataError(f"a block of {len(values)} columns claims {len(places)} places")
        for place, column in zip(places, values, strict=True):
            found[names[place]] = list(_as_list(column, budget))
    ordered = {name: found[name] for name in names if name in found}
    for name, column in ordered.items():
        if len(column) != rows:
            raise DataError(f"column {name} has {len(column)} rows, the table {rows}")
    return ordered


def _places(placement: Any, count: int) -> list[int] | range:
    if isinstance(placement, slice):
        return range(count)[placement]
    places = array_of(placement, "a block's columns", np.int64).reshape(-1)
    if places.size and not 0 <= places.min() <= places.max() < count:
        raise DataError("a block claims columns that the table does not have")
    return [int(place) for place in places]


def _arrow_array(call: Call) -> list[Any]:
    """pyarrow.lib._restore_array of text: ((type, length, nulls, offset, [validity, offsets, bytes], ...),)."""
    data = call.args[0] if call.args else None
    if type(data) is not tuple or len(data) < 5 or type(data[4]) not in (list, tuple) or len(data[4]) != 3:
        raise _unknown()
    kind, (validity, offsets, content) = data[0], data[4]
    width = {"string": "i", "large_string": "q"}.get(kind) if isinstance(kind, str) else None
    if width is None:
        raise DataError(f"the table holds an Arrow array of type {str(kind)[:40]!r}, only text is read")
    if not all(part is None or type(part) is bytes for part in (validity, offsets, content)):
        raise _unknown()
    length, offset = whole_number(data[1], "a text's length", None), whole_number(data[3], "a text's start", None)
    size = struct.calcsize(width)
    short = offsets is None or len(offsets) < (offset + length + 1) * size or min(length, offset) < 0
    if short or (validity is not None and 8 * len(validity) < offset + length):
        raise DataError("the table's text is cut short")
    ends = struct.unpack(f"<{length + 1}{width}", offsets[offset * size : (offset + length + 1) * size])
    content = content or b""
    if ends[0] < 0 or ends[-1] > len(content) or any(a > b for a, b in pairwise(ends)):
        raise DataError("the table's text is cut short")
    call.budget.charge(64 * length + ends[-1] - ends[0])
    values: list[Any] = []
    for i in range(length):
        bit = offset + i
        missing = validity is not None and not validity[bit // 8] >> (bit % 8) & 1
        values.append(None if missing else content[ends[i] : ends[i + 1]].decode("utf-8", "replace"))
    return values


def _chunked(call: Call) -> list[Any]:
    chunks: list[Any] = list(_as_list(call.args[0] if call.args else None, call.budget))
    if not all(isinstance(chunk, list) for chunk in chunks):
        raise _unknown()
    call.budget.charge(8 * sum(map(len, chunks)))
    return [value for chunk in chunks for value in chunk]


def _buffer(call: Call) -> bytes:
    if len(call.args) != 1 or type(call.args[0]) is not bytes:
        raise _unknown()
    return call.args[0]


def _alias(call: Call) -> str:
    return text_of(call.args[0] if call.args else None, "an Arrow type")


def _makers() -> dict[Name, Maker | None]:
    makers: dict[Name, Maker | None] = {
        Name("pandas.core.indexes.base", "_new_Index"): _index,
        Name("pandas._libs.internals", "_unpickle_block"): _block,
        Name("pandas.core.internals.blocks", "new_block"): _block,
        Name("pyarrow.lib", "_restore_array"): _arrow_array,
        Name("pyarrow.lib", "chunked_array"): _chunked,
        Name("pyarrow.lib", "py_buffer"): _buffer,
        Name("pyarrow.lib", "type_for_alias"): _alias,
    }
    for module in ("pandas", "pandas.core.frame"):
        makers[Name(module, "DataFrame")] = _frame
    for module in ("pandas.core.internals.managers", "pandas.core.internals"):
        makers[Name(module, "BlockManager")] = _manager
    for module in ("pandas", "pandas.core.indexes.base", "pandas.core.indexes.numeric", "pandas.indexes.base"):
        for name in ("Index", "Int64Index", "Float64Index"):
            makers[Name(module, name)] = None
    for module in ("pandas", "pandas.core.indexes.range", "pandas.indexes.range"):
        makers[Name(module, "RangeIndex")] = None
    for module in ("pandas", "pandas.core.arrays.string_"):
        makers[Name(module, "StringDtype")] = make_record
    for module in ("pandas.arrays", "pandas.core.arrays.string_arrow"):
        makers[Name(module, "ArrowStringArray")] = _text
    return makers


def read_table(path: Path) -> dict[str, list[Any]]:
    """Column name -> values of a pickled pandas DataFrame. DataError names what else a file asks for."""
    table = load_pickle(path, _makers())
    if not isinstance(table, _Table):
        raise DataError(f"the file holds a {type(table).__name__}, not a pandas table", where=path)
    return placed(path, lambda: columns(table, Budget(path.stat().st_size)))
