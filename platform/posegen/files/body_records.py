"""chumpy arrays and scipy sparse matrices of old body files: their state, and the numbers in it.

chumpy is not needed (nor installable on Python 3.11), and scipy's constructors never see the file's numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.errors import DataError
from posegen.files.array_records import checked_shape
from posegen.files.numbers import array_of
from posegen.files.recorded import Call, Maker, Name

MAX_DENSE = 2**24  # entries of a sparse matrix made dense: SMPL-X's joint regressor has 576 thousand


@dataclass(frozen=True, eq=False)
class ChumpyArray:
    """chumpy.ch.Ch keeps its numbers under `x`; a reordering (chumpy.reordering.Select) picks from its source `a`."""

    state: dict[str, Any]

    def array(self) -> NDArray:
        if "x" in self.state:
            return plain(self.state["x"])
        if {"a", "idxs"} <= set(self.state):
            source, places = plain(self.state["a"]).ravel(), array_of(self.state["idxs"], "chumpy's indices", np.int64)
            if places.size > MAX_DENSE or (places.size and not 0 <= places.min() <= places.max() < source.size):
                raise DataError("a chumpy object picks numbers that its source does not have")
            picked, shape = source[places], self.state.get("preferred_shape")
            return picked if shape is None else _reshaped(picked, array_of(shape, "chumpy's shape", np.int64).tolist())
        held = ", ".join(sorted(map(str, self.state))) or "nothing"
        raise DataError(f"a chumpy object holds no numbers of its own (it has {held[:200]})")


def _reshaped(array: NDArray, shape: Any) -> NDArray:
    shape = checked_shape(shape)
    if math.prod(shape) != array.size:
        raise DataError(f"a chumpy object has {array.size} numbers for shape {shape}")
    return array.reshape(shape)


@dataclass(frozen=True, eq=False)
class SparseMatrix:
    """A scipy.sparse matrix: kind is csc, csr or coo."""

    kind: str
    state: dict[str, Any]

    def array(self) -> NDArray:
        """Dense. As in scipy, entries of one place add up."""
        state = {key.lstrip("_"): value for key, value in self.state.items()}
        coordinates = ("coords",) if "coords" in state else ("row", "col")
        missing = {"shape", "data", *(coordinates if self.kind == "coo" else ("indices", "indptr"))} - set(state)
        if missing:
            raise DataError(f"a sparse matrix in the pickle lacks {', '.join(sorted(missing))}")
        shape = checked_shape(array_of(state["shape"], "a sparse matrix's shape", np.int64).tolist())
        if len(shape) != 2 or math.prod(shape) > MAX_DENSE:
            raise DataError(f"a sparse matrix in the pickle has the shape {shape}")
        data = array_of(state["data"], "a sparse matrix's numbers", None).reshape(-1)
        if self.kind == "coo":
            pair = state["coords"] if "coords" in state else (state["row"], state["col"])
            if type(pair) not in (tuple, list) or len(pair) != 2:
                raise DataError("a sparse matrix in the pickle has no rows and columns")
            row, col = (array_of(part, "a sparse matrix's places", np.int64).reshape(-1) for part in pair)
        else:
            starts = array_of(state["indptr"], "a sparse matrix's starts", np.int64).reshape(-1)
            minor = array_of(state["indices"], "a sparse matrix's places", np.int64).reshape(-1)
            lines = shape[0] if self.kind == "csr" else shape[1]
            counts = np.diff(starts)
            if len(starts) != lines + 1 or starts[0] != 0 or (counts < 0).any() or starts[-1] != len(minor):
                raise DataError("a sparse matrix in the pickle has lines that do not follow each other")
            major = np.repeat(np.arange(lines), counts)
            row, col = (major, minor) if self.kind == "csr" else (minor, major)
        if not len(row) == len(col) == len(data):
            raise DataError("a sparse matrix in the pickle has more places than numbers, or fewer")
        for places, length in ((row, shape[0]), (col, shape[1])):
            if len(places) and not 0 <= places.min() <= places.max() < length:
                raise DataError("a sparse matrix in the pickle has numbers outside of itself")
        dense = np.zeros(shape, data.dtype)
        np.add.at(dense, (row, col), data)
        return dense


def plain(value: Any) -> NDArray:
    """A numpy array of numbers from whatever stood in the pickle: chumpy's, scipy's, numpy's, lists."""
    if isinstance(value, ChumpyArray | SparseMatrix):
        return value.array()
    return array_of(value, "an array", None)


def _state(call: Call) -> dict[str, Any]:
    if type(call.state) is not dict or not all(type(key) is str for key in call.state):
        raise DataError(f"an object of {call.name} in the pickle has a state of an unknown layout")
    return call.state


def _chumpy(call: Call) -> ChumpyArray:
    return ChumpyArray(_state(call))


def _sparse(call: Call) -> SparseMatrix:
    return SparseMatrix(call.name.name[:3], _state(call))


BODIES: dict[Name, Maker | None] = {
    **{
        Name(module.format(kind), f"{kind}_{form}"): _sparse
        for module in ("scipy.sparse", "scipy.sparse.{0}", "scipy.sparse._{0}")
        for kind in ("csc", "csr", "coo")
        for form in ("matrix", "array")
    },
    **{
        Name(module, name): _chumpy
        for module in ("chumpy", "chumpy.ch", "chumpy.reordering")
        for name in ("Ch", "Select", "MatVecMult")
    },
}
