"""Reads pickles of numpy arrays, and of the scipy and chumpy objects of old body files, without running their code.

A pickle may name any function and call it. This reader knows a short list of names and refuses a file that asks for
another one, before anything is called. chumpy itself is not needed (nor installable on Python 3.11): its array
wrapper is replaced by a stand-in that keeps the numbers.
"""

from __future__ import annotations

import codecs
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.errors import DataError


class ArrayStandIn:
    """Takes the place of a chumpy array (chumpy.ch.Ch and its relatives) or a scipy sparse matrix: state only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.state: dict[str, Any] = {}

    def __new__(cls, *args: Any, **kwargs: Any) -> ArrayStandIn:
        made = super().__new__(cls)
        made.state = {}  # unpickling does not call __init__
        return made

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise DataError("an array object in the pickle has a state of an unknown layout")
        self.state = state


class ChumpyArray(ArrayStandIn):
    """chumpy.ch.Ch keeps its numbers under `x`; a reordering (chumpy.reordering.Select) picks from its source `a`."""

    def array(self) -> NDArray:
        if "x" in self.state:
            return plain(self.state["x"])
        if {"a", "idxs"} <= set(self.state):
            picked = plain(self.state["a"]).ravel()[np.asarray(self.state["idxs"])]
            shape = self.state.get("preferred_shape")
            return picked if shape is None else picked.reshape(shape)
        held = ", ".join(sorted(map(str, self.state))) or "nothing"
        raise DataError(f"a chumpy object holds no numbers of its own (it has {held})")


class SparseMatrix(ArrayStandIn):
    """A scipy.sparse csc, csr or coo matrix; `kind` is set by the subclass."""

    kind = ""

    def array(self) -> NDArray:
        from scipy import sparse

        state = {key.lstrip("_"): value for key, value in self.state.items()}
        shape = tuple(int(n) for n in state["shape"])
        data = np.asarray(state["data"])
        if self.kind == "coo":
            row, col = state["coords"] if "coords" in state else (state["row"], state["col"])
            return np.asarray(sparse.coo_matrix((data, (np.asarray(row), np.asarray(col))), shape=shape).toarray())
        make = sparse.csc_matrix if self.kind == "csc" else sparse.csr_matrix
        return np.asarray(
            make((data, np.asarray(state["indices"]), np.asarray(state["indptr"])), shape=shape).toarray()
        )


class CscMatrix(SparseMatrix):
    kind = "csc"


class CsrMatrix(SparseMatrix):
    kind = "csr"


class CooMatrix(SparseMatrix):
    kind = "coo"


def plain(value: Any) -> NDArray:
    """A numpy array of numbers from whatever stood in the pickle."""
    if isinstance(value, ChumpyArray | SparseMatrix):
        return value.array()
    return np.asarray(value)


def _reconstruct(cls: type, shape: tuple[int, ...], typecode: Any) -> NDArray:
    """numpy's array constructor for pickles, for plain arrays only."""
    if cls is not np.ndarray:
        raise DataError(f"the pickle asks for an array of class {cls!r}")
    return np.ndarray(shape, np.dtype(typecode))


def _scalar(dtype: np.dtype, data: bytes | str) -> Any:
    if dtype.hasobject:
        raise DataError("the pickle asks for a scalar that holds Python objects")
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype)[0]


def _frombuffer(data: bytes | bytearray, dtype: np.dtype, shape: tuple[int, ...], order: str) -> NDArray:
    return np.frombuffer(bytearray(data), dtype=dtype).reshape(shape, order="F" if order == "F" else "C")


def _encode(text: str, encoding: str) -> bytes:
    """codecs.encode as protocol 2 pickles of Python 3 use it for bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise DataError(f"the pickle asks for the text encoding {encoding!r}")
    return codecs.latin_1_encode(text)[0]


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "bytes"): bytes,
    ("__builtin__", "bytes"): bytes,
    ("builtins", "bytearray"): bytearray,
    ("__builtin__", "bytearray"): bytearray,
    ("builtins", "complex"): complex,
    ("builtins", "slice"): slice,
    ("_codecs", "encode"): _encode,
}
for _module in ("numpy.core", "numpy._core"):
    _ALLOWED[(f"{_module}.multiarray", "_reconstruct")] = _reconstruct
    _ALLOWED[(f"{_module}.multiarray", "scalar")] = _scalar
    _ALLOWED[(f"{_module}.numeric", "_frombuffer")] = _frombuffer
for _module in ("scipy.sparse", "scipy.sparse.{0}", "scipy.sparse._{0}"):
    for _kind, _stand_in in (("csc", CscMatrix), ("csr", CsrMatrix), ("coo", CooMatrix)):
        _ALLOWED[(_module.format(_kind), f"{_kind}_matrix")] = _stand_in
        _ALLOWED[(_module.format(_kind), f"{_kind}_array")] = _stand_in
for _module in ("chumpy", "chumpy.ch", "chumpy.reordering"):
    for _name in ("Ch", "Select", "MatVecMult"):
        _ALLOWED[(_module, _name)] = ChumpyArray


def _new_object(cls: type, base: type, state: Any) -> Any:
    """copyreg._reconstructor (protocols 0 and 1), for the stand-ins only."""
    if not (isinstance(cls, type) and issubclass(cls, ArrayStandIn)):
        raise DataError(f"the pickle asks for an object of class {cls!r}")
    return cls()


_ALLOWED[("copy_reg", "_reconstructor")] = _new_object
_ALLOWED[("copyreg", "_reconstructor")] = _new_object
_ALLOWED[("builtins", "object")] = object
_ALLOWED[("__builtin__", "object")] = object


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, path: Path, extra: dict[tuple[str, str], Any]) -> None:
        super().__init__(file, encoding="latin1")
        self.path = path
        self.allowed = {**_ALLOWED, **extra}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.allowed:
            return self.allowed[(module, name)]
        raise DataError(
            f"the file asks for {module}.{name} when it is loaded, which no data file needs: refused, nothing ran",
            where=self.path,
            next_command="take the file from its original source again, or convert it to .npz where you trust it",
        )

    def persistent_load(self, pid: Any) -> Any:
        raise DataError("the pickle refers to objects outside of the file: refused", where=self.path)


def load_pickle(path: Path | str, extra: dict[tuple[str, str], Any] | None = None) -> Any:
    """The contents of a pickle that holds only containers, numbers, text and arrays.

    Args:
        path: a file written by Python 2 or 3 (text of Python 2 is read as latin1).
        extra: (module, name) -> stand-in, for formats that need more names.

    Raises DataError, naming the global, when the file asks for anything else.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _Unpickler(file, path, extra or {}).load()
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=path) from error
    except DataError as error:
        if error.where is None:
            raise DataError(error.what, where=path) from error
        raise
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise DataError(f"the pickle is cut short or damaged: {error or type(error).__name__}", where=path) from error
