"""Readers that are wrong on purpose: what the fuzzer must see. Run as a program it prints how their cases ended."""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from posegen.errors import DataError

from .format import Case, Format, Mutators
from .minimise import smallest
from .pool import Trial, run

VALID = bytes(range(64))


def _grumbling(path: Path) -> Any:
    """Wrong as soon as the byte at 40 is not its own: everything else of the file does not matter."""
    content = path.read_bytes()
    if len(content) != len(VALID):
        raise DataError("of another length", where=path)
    if content[40] != VALID[40]:
        raise KeyError("forty")
    return len(content)


def _died(path: Path) -> Any:
    return ctypes.string_at(0)


def _slow(path: Path) -> Any:
    start = time.process_time()
    while time.process_time() - start < 60:
        pass


def _greedy(path: Path) -> Any:
    return np.ones(3 * 10**9, np.uint8).sum()


def _greedy_in_our_words(path: Path) -> Any:
    try:
        return _greedy(path)
    except MemoryError as error:
        raise DataError("it is damaged", where=path) from error


def _refused(path: Path) -> Any:
    raise DataError("it is damaged", where=path)


def _nameless(path: Path) -> Any:
    raise DataError("it is damaged")


def _not_finite(path: Path) -> Any:
    return {"a": [np.zeros(3), {"b": np.array([1.0, np.nan])}], "c": np.array([np.nan])}


def _misshapen(path: Path) -> Any:
    return np.zeros((2, 3))


def _square(value: Any) -> None:
    assert value.shape[0] == value.shape[1], "no square"


READERS: dict[str, Callable[[Path], Any]] = {
    "grumbling": _grumbling, "died": _died, "slow": _slow, "greedy": _greedy, "hidden": _greedy_in_our_words,
    "refused": _refused, "nameless": _nameless, "nan": _not_finite, "misshapen": _misshapen, "good": Path.read_bytes,
}  # fmt: skip


def _build(folder: Path) -> Path:
    (folder / "a.bin").write_bytes(VALID)
    return folder / "a.bin"


def toys() -> dict[str, Format]:
    """Formats of one valid file each, read by the readers above."""
    return {
        name: Format(name, _build, read, Mutators(), (), _square if name == "misshapen" else None, nan=("c",))
        for name, read in READERS.items()
    }


def main() -> None:
    formats = toys()
    changed = bytes(255 - byte for byte in VALID)
    trials = [Trial(Case(name, 0, 0)) for name in formats] + [Trial(Case("grumbling", 0, 1), content=changed)]
    told: dict[str, Any] = {}
    for ended in run(formats, trials, seconds=1.0):
        case = ended.trial.case
        told[f"{case.format}/{case.number}"] = [ended.outcome.kind, ended.outcome.where]
        if case.number == 1:
            small = smallest(formats, ended, lambda other: other.outcome.kind == "raw")
            content = small.content or b""
            told["smallest"] = [i for i in range(len(content)) if content[i] != VALID[i]]
    print(json.dumps(told))


if __name__ == "__main__":
    main()
