"""Finding and opening the files of data sets, with errors that say what was looked for and where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.arguments import check_arguments
from posegen.benchmarks.readers.frames import FrameOptions
from posegen.errors import DataError
from posegen.files import arrays as gate
from posegen.files.listing import files_matching
from posegen.files.values import texts


def existing(path: str | Path, what: str) -> Path:
    """The path, expanded; DataError when nothing is there."""
    found = Path(path).expanduser()
    if not found.exists():
        raise DataError(f"{what} is not there", where=found, next_command="posegen doctor")
    return found


def files_below(folder: Path, pattern: str, what: str) -> list[Path]:
    """Files that match, in order of name, without hidden ones; DataError when there is none."""
    found = files_matching(folder, pattern)
    if not found:
        raise DataError(f"no {what} ({pattern}) in the folder", where=folder, next_command="posegen doctor")
    return found


def image_root(images: str | Path | None, default: Path, inner: str = "") -> Path:
    """The folder that picture names start in: `images`, or the default; one level up where `inner` itself is given."""
    root = default if images is None else existing(images, "the folder of pictures")
    return root.parent if inner and root.name == inner else root


def frame_options(dataset: str, options: dict[str, Any], own: Iterable[str]) -> FrameOptions:
    """FrameOptions from what a factory was given beyond its own options; unknown ones raise ConfigError."""
    check_arguments(f"benchmark {dataset}", FrameOptions, options, where=f"benchmark={dataset}", more=own)
    return FrameOptions(**options)


def read_npz(
    path: Path,
    needed: Sequence[str],
    optional: Sequence[str] = (),
    *,
    text: Sequence[str] = ("imgname", "gender"),
    one_for_all: Sequence[str] = ("gender",),
    unbounded: Sequence[str] = (),
) -> dict[str, NDArray]:
    """Arrays of an npz file, one row a frame; missing keys are named.

    Args:
        text: keys that hold text; all others hold numbers.
        one_for_all: keys that may be a single value () or (1,), which then counts for all rows.
        unbounded: keys whose values may be not finite, since the reader looks at the rows that count.
    """
    arrays = gate.read_npz(path, needed, optional, text=text, unbounded=unbounded)
    rows = max((len(value) for value in arrays.values() if value.ndim), default=1)
    for key in one_for_all:
        if key in arrays and arrays[key].size == 1:
            arrays[key] = np.broadcast_to(arrays[key].reshape(1), (rows,))
    if single := [key for key, value in arrays.items() if not value.ndim]:
        raise DataError(f"{', '.join(single)}: a single value where {rows} rows should be", where=path)
    lengths = {key: len(value) for key, value in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"arrays of unequal length: {lengths}", where=path)
    return arrays


def as_text(values: NDArray, name: str = "the column", where: object = None) -> list[str]:
    """An array of str or bytes as a list of str."""
    return texts(values, name, where)
