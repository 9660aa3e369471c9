"""Single values out of arrays: one number of any shape, text of any kind, numbers that are finite."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.errors import DataError, PosegenError

LONGEST_TEXT = 1 << 16
_PIECE = 1 << 20
_LARGEST = float(np.finfo(np.float32).max)


def one_number(
    value: Any, name: str, where: object, error: type[PosegenError] = DataError,
    low: float = -np.inf, high: float = np.inf,
) -> float:  # fmt: skip
    """The number in an array of any shape with one element (AMASS keeps rates as (), (1,) and (1,1)).

    Args:
        name: what it is, for the error.
        low, high: what it must lie between, ends included.
    """
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if not isinstance(value, bool | int | float | np.ndarray | np.generic):  # numpy would make something of anything
        told = "text" if isinstance(value, str | bytes) else f"a {type(value).__name__}"
        raise error(f"{name} is no number but {told}", where=where)
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise error(f"{name} is no number but {_kind(array)}", where=where)
    if array.size != 1:
        raise error(f"{name} must be one number, it has shape {array.shape}", where=where)
    number = float(array.reshape(-1)[0])
    if not np.isfinite(number):
        raise error(f"{name} is not finite", where=where)
    if not low <= number <= high:
        raise error(f"{name} is {number:g}, it must lie between {low:g} and {high:g}", where=where)
    return number


def whole_number(
    value: Any, name: str, where: object, error: type[PosegenError] = DataError, low: int = 0, high: int = 2**53
) -> int:
    """The whole number in an array of any shape with one element, also where it is stored as a float."""
    number = one_number(value, name, where, error, low, high)
    if number != int(number):
        raise error(f"{name} is {number:g}, which is no whole number", where=where)
    return int(number)


def characters_exist(array: NDArray) -> bool:
    """Whether numpy's text (UCS-4, any byte order) holds code points of Unicode alone; Python fails on others later."""
    if array.dtype.kind != "U" or not array.size or not array.dtype.itemsize:
        return True
    codes = np.ascontiguousarray(array).reshape(-1).view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
    return int(codes.max()) <= sys.maxunicode


def texts(values: Any, name: str, where: object, error: type[PosegenError] = DataError) -> list[str]:
    """An array (N,) of text or bytes as a list of str; a single text () is one element."""
    array = np.asarray(values)
    listed = array.reshape(-1).tolist()
    if array.ndim > 1 or not all(isinstance(value, str | bytes) for value in listed):
        raise error(f"{name} must be a list of texts, it holds {_kind(array)} of shape {array.shape}", where=where)
    return [text(value, name, where, error) for value in listed]


def text(value: Any, name: str, where: object, error: type[PosegenError] = DataError) -> str:
    """One text: str, bytes (UTF-8), or an array with one of them."""
    if isinstance(value, np.ndarray | np.generic):
        if value.size != 1:
            raise error(f"{name} must be one text, it has shape {value.shape}", where=where)
        value = value.reshape(-1)[0].item() if isinstance(value, np.ndarray) else value.item()
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as why:
            raise error(f"{name} is no UTF-8 text", where=where) from why
    if not isinstance(value, str):
        raise error(f"{name} must be text, not {type(value).__name__}", where=where)
    if len(value) > LONGEST_TEXT:
        raise error(f"{name} has {len(value)} characters", where=where)
    return value


def finite(array: NDArray) -> bool:
    """Whether all numbers are finite, also as 32-bit floats, which everything is computed in.

    Looked at piece by piece, so that no mask as long as the array is made.
    """
    if array.dtype.kind != "f":
        return True
    if array.dtype.itemsize > 4:  # NaN compares as false
        return all(bool((np.abs(piece) <= _LARGEST).all()) for piece in _pieces(array))
    return all(bool(np.isfinite(piece).all()) for piece in _pieces(array))


def _pieces(array: NDArray) -> Iterator[NDArray]:
    flat = array.reshape(-1) if array.flags.c_contiguous else array.reshape(-1, order="A")
    for start in range(0, flat.size, _PIECE):
        yield flat[start : start + _PIECE]


def _kind(array: NDArray) -> str:
    kinds = {
        "U": "text",
        "S": "bytes",
        "O": "objects",
        "c": "complex numbers",
        "M": "dates",
        "m": "times",
        "V": "records",
    }
    return kinds.get(array.dtype.kind, str(array.dtype))
