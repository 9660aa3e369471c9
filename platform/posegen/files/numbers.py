"""Numbers and text from the plain values of a file (lists, arrays, numbers), with errors that say what is wrong.

`numpy.asarray` takes anything: it parses text, makes arrays of objects, and pads texts to the longest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from posegen.errors import DataError

_NUMBERS = (bool, int, float, np.number, np.bool_)
MAX_TEXT = 1000


def array_of(value: Any, what: str, dtype: DTypeLike | None = np.float64, where: object = None) -> NDArray:
    """A new array of numbers (or booleans) from an array, a number or (nested) lists of them.

    Args:
        what: names it in errors. dtype: to convert to; None keeps the numbers' own.

    Raises DataError where it is no array of numbers, has ragged rows, or numbers that the dtype cannot hold.
    """
    if not isinstance(value, np.ndarray) and not _are_numbers(value, 0):
        raise DataError(f"{what}: a {_kind(value)} instead of numbers", where=where)
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise DataError(f"{what}: numbers expected, found {array.dtype}", where=where)
        if dtype is None:
            return array
        if np.dtype(dtype).kind in "iu" and array.dtype.kind == "f" and not (array == np.floor(array)).all():
            raise DataError(f"{what}: whole numbers expected", where=where)
        with np.errstate(all="ignore"):
            converted = array.astype(dtype)
        if np.dtype(dtype).kind in "iu" and not np.array_equal(converted, array):
            raise DataError(f"{what}: numbers out of range", where=where)
        return converted
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{what}: rows of unequal length", where=where) from error


def _are_numbers(value: Any, depth: int) -> bool:
    if isinstance(value, list | tuple):
        return depth < 16 and all(type(v) is float or _are_numbers(v, depth + 1) for v in value)
    return isinstance(value, _NUMBERS) or (isinstance(value, np.ndarray) and value.dtype.kind in "biuf")


def _kind(value: Any) -> str:
    return (
        f"{type(value).__name__} that holds something else" if isinstance(value, list | tuple) else type(value).__name__
    )


def text_of(value: Any, what: str, where: object = None) -> str:
    """One short text: str, bytes, or numpy's."""
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "SU":
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise DataError(f"{what}: a {type(value).__name__} instead of a short text", where=where)
    return str(value)


def mapping_of(value: Any, what: str, needed: tuple[str, ...], where: object = None) -> dict[str, Any]:
    """A dictionary that has the keys."""
    if not isinstance(value, dict):
        raise DataError(f"{what}: a {type(value).__name__} instead of a dictionary", where=where)
    missing = [key for key in needed if key not in value]
    if missing:
        raise DataError(f"{what}: {', '.join(missing)} missing", where=where, choices=needed)
    return value


def sequence_of(value: Any, what: str, where: object = None) -> list[Any]:
    """A list of things, from a list, a tuple or an array's first axis."""
    if isinstance(value, np.ndarray) and value.ndim:
        return list(value)
    if isinstance(value, list | tuple):
        return list(value)
    raise DataError(f"{what}: a {type(value).__name__} instead of a list", where=where)
