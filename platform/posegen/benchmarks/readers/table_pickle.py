"""Reads pickled pandas tables without pandas' own unpickling, so that no code of the file runs.

Stand-ins take the place of pandas' classes and keep only what a table is made of: blocks of values, the columns they
belong to, and the column names. They know the layouts of pandas 1.0 (a state tuple) to 3 (blocks as arguments, text as
Arrow buffers), so that a table reads the same whatever pandas is installed.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from posegen.body.safe_pickle import load_pickle
from posegen.errors import DataError


class _Index:
    """A pandas Index of any class: its labels."""

    def __init__(self, labels: list[Any]) -> None:
        self.labels = labels


class _IndexClass:
    """Stands for the class that `_new_Index` is told to make."""


class _RangeIndexClass(_IndexClass):
    pass


def _new_index(cls: type, state: dict[str, Any]) -> _Index:
    if issubclass(cls, _RangeIndexClass) or "start" in state:
        step = state.get("step") or 1
        return _Index(list(range(int(state.get("start") or 0), int(state["stop"]), int(step))))
    return _Index(_as_list(state.get("data", ())))


class _Text:
    """A column of text backed by Arrow buffers (pandas ArrowStringArray); `_pa_array` holds the values."""

    def __init__(self, *args: Any) -> None:
        self.values: list[Any] = []

    def __setstate__(self, state: Any) -> None:
        self.values = list(state.get("_pa_array", state.get("_data", ())))


class _Dtype:
    """A pandas dtype: not needed."""

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.args = ()


class _Block:
    """Values of some columns, and which ones."""

    def __init__(self, values: Any, placement: Any, ndim: int = 2) -> None:
        self.values, self.placement = values, placement


class _BlockManager:
    def __init__(self, blocks: Any = (), axes: Any = (), *rest: Any) -> None:
        self.blocks, self.axes = list(blocks), list(axes)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) >= 4 and isinstance(state[3], dict) and "0.14.1" in state[3]:
            content = state[3]["0.14.1"]
            self.axes = list(content["axes"])
            self.blocks = [_Block(block["values"], block["mgr_locs"]) for block in content["blocks"]]
        elif state is not None and not self.blocks:
            raise DataError("the table is of a layout of pandas that is not known")


class _Table:
    manager: _BlockManager

    def __setstate__(self, state: Any) -> None:
        manager = state.get("_mgr", state.get("_data")) if isinstance(state, dict) else None
        if not isinstance(manager, _BlockManager):
            raise DataError("the table is of a layout of pandas that is not known")
        self.manager = manager

    def columns(self) -> dict[str, list[Any]]:
        names, rows = _as_list(self.manager.axes[0]), len(_as_list(self.manager.axes[1]))
        table: dict[str, list[Any]] = {}
        for block in self.manager.blocks:
            places = block.placement
            places = range(len(names))[places] if isinstance(places, slice) else [int(i) for i in np.atleast_1d(places)]
            values = [_as_list(block.values)] if isinstance(block.values, _Text) else np.asarray(block.values)
            if isinstance(values, np.ndarray) and values.ndim == 1:
                values = values[None]
            if len(values) != len(places):
                raise DataError(f"a block of {len(values)} columns claims {len(places)} places")
            for place, column in zip(places, values, strict=True):
                table[str(names[place])] = list(column)
        ordered = {str(name): table[str(name)] for name in names if str(name) in table}
        for name, column in ordered.items():
            if len(column) != rows:
                raise DataError(f"column {name} has {len(column)} rows, the table {rows}")
        return ordered


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, _Index):
        return value.labels
    if isinstance(value, _Text):
        return value.values
    return np.asarray(value).tolist() if isinstance(value, np.ndarray) else list(value)


def _arrow_array(data: tuple[Any, ...]) -> list[Any]:
    """pyarrow.lib._restore_array of text: (type, length, nulls, offset, [validity, offsets, bytes], ...)."""
    kind, length, _, offset, buffers = data[:5]
    width = {"string": "i", "large_string": "q"}.get(kind)
    if width is None:
        raise DataError(f"the table holds an Arrow array of type {kind!r}, only text is read")
    validity, offsets, content = buffers
    size = struct.calcsize(width)
    if offsets is None or len(offsets) < (offset + length + 1) * size:
        raise DataError("the table's text is cut short")
    ends = struct.unpack(f"<{length + 1}{width}", offsets[offset * size : (offset + length + 1) * size])
    values: list[Any] = []
    for i in range(length):
        bit = offset + i
        if validity is not None and not validity[bit // 8] >> (bit % 8) & 1:
            values.append(None)
        else:
            values.append(bytes(content[ends[i] : ends[i + 1]] if content is not None else b"").decode())
    return values


def _chunked(chunks: Any, *rest: Any) -> list[Any]:
    return [value for chunk in chunks for value in chunk]


def _stand_ins() -> dict[tuple[str, str], Any]:
    allowed: dict[tuple[str, str], Any] = {
        ("__builtin__", "slice"): slice,
        ("pandas.core.indexes.base", "_new_Index"): _new_index,
        ("pandas._libs.internals", "_unpickle_block"): _Block,
        ("pandas.core.internals.blocks", "new_block"): _Block,
        ("pyarrow.lib", "_restore_array"): _arrow_array,
        ("pyarrow.lib", "chunked_array"): _chunked,
        ("pyarrow.lib", "py_buffer"): bytes,
        ("pyarrow.lib", "type_for_alias"): str,
    }
    for module in ("pandas", "pandas.core.frame"):
        allowed[(module, "DataFrame")] = _Table
    for module in ("pandas.core.internals.managers", "pandas.core.internals"):
        allowed[(module, "BlockManager")] = _BlockManager
    for module in ("pandas", "pandas.core.indexes.base", "pandas.core.indexes.numeric", "pandas.indexes.base"):
        for name in ("Index", "Int64Index", "Float64Index"):
            allowed[(module, name)] = _IndexClass
    for module in ("pandas", "pandas.core.indexes.range", "pandas.indexes.range"):
        allowed[(module, "RangeIndex")] = _RangeIndexClass
    for module in ("pandas", "pandas.core.arrays.string_"):
        allowed[(module, "StringDtype")] = _Dtype
    for module in ("pandas.arrays", "pandas.core.arrays.string_arrow"):
        allowed[(module, "ArrowStringArray")] = _Text
    return allowed


def read_table(path: Path) -> dict[str, list[Any]]:
    """Column name -> values of a pickled pandas DataFrame. DataError names what else a file asks for."""
    table = load_pickle(path, _stand_ins())
    if not isinstance(table, _Table):
        raise DataError(f"the file holds a {type(table).__name__}, not a pandas table", where=path)
    try:
        return table.columns()
    except DataError as error:
        raise DataError(error.what, where=path) from error
    except (AttributeError, TypeError, IndexError, KeyError, ValueError) as error:
        raise DataError(f"the pickled table is damaged: {error}", where=path) from error
