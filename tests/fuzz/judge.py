"""Whether a case ended right: loaded with finite numbers of the documented shape, or refused in posegen's words."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import posegen
from posegen.errors import PosegenError

from .format import Format

LOADED, REFUSED = "loaded", "refused"
PACKAGE = str(Path(posegen.__file__).parent)
_DEPTH = 8


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        kind: loaded or refused; or, all wrong: raw (another exception), memory, nan, shape,
        nameless (an error that does
            not say of which file), and from outside the process crash and hang.
        where: for wrong ones the place: exception, file and line in posegen; or which value.
        text: what was said.
    """

    kind: str
    where: str = ""
    text: str = ""

    @property
    def right(self) -> bool:
        return self.kind in (LOADED, REFUSED)


def judged(form: Format, path: Path) -> Outcome:
    """Reads the file and looks at what comes out. Everything is caught: the fuzzer goes on."""
    try:
        value = form.read(path)
    except PosegenError as error:
        if _of_memory(error):
            return Outcome("memory", _place(error), str(error)[:500])
        if error.where is None:
            return Outcome("nameless", _place(error), str(error)[:500])
        return Outcome(REFUSED, "", str(error)[:500])
    except Exception as error:
        kind = "memory" if _of_memory(error) else "raw"
        return Outcome(kind, f"{type(error).__name__} {_place(error)}", _said(error))
    try:
        if bad := not_finite(value, form.nan):
            return Outcome("nan", bad, f"{bad} holds values that are not finite")
        if form.check is not None:
            form.check(value)
    except AssertionError as error:
        return Outcome("shape", str(error)[:60], f"not of the documented shape: {error}")
    return Outcome(LOADED)


def _of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out on the way: the limit is what a user's machine would have paid."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError) or "not enough memory" in str(error) or "allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _place(error: BaseException) -> str:
    """The innermost line of posegen's own code."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(PACKAGE)]
    if not frames:
        return "outside"
    return f"{frames[-1].filename[len(PACKAGE) + 1 :]}:{frames[-1].lineno}"


def _said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error, limit=-4))[-1500:]


def not_finite(value: Any, allowed: tuple[str, ...] = (), name: str = "", depth: int = 0) -> str:
    """The name of the first field or key that holds NaN or infinity; "" where none does."""
    last = name.rsplit(".", 1)[-1]
    if depth > _DEPTH or last in allowed or (last.startswith("_") and depth):
        return ""
    if isinstance(value, torch.Tensor):
        bad = (value.is_floating_point() or value.is_complex()) and not bool(torch.isfinite(value).all())
        return (name or "the tensor") if bad else ""
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype == object:
            return not_finite(value.reshape(-1).tolist() if value.ndim else [value.item()], allowed, name, depth + 1)
        bad = value.dtype.kind in "fc" and not bool(np.isfinite(value).all())
        return (name or "the array") if bad else ""
    if isinstance(value, float):
        return (name or "the number") if value - value != 0 else ""
    parts: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        parts = [(f"{name}.{key}" if name else str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = [(f"{name}[]" if name else "[]", item) for item in value]
    elif isinstance(value, torch.nn.Module):
        parts = [(key, item) for key, item in value.state_dict().items()]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [(f"{name}.{f.name}" if name else f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    elif hasattr(value, "__dict__") and type(value).__module__.startswith("posegen"):
        parts = [(f"{name}.{key}" if name else key, item) for key, item in vars(value).items()]
    for key, item in parts:
        if bad_name := not_finite(item, allowed, key, depth + 1):
            return bad_name
    return ""
