"""Finding and opening the files of data sets, with errors that say what was looked for and where."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.benchmarks.readers.frames import FrameOptions
from posegen.errors import ConfigError, DataError, closest


def existing(path: str | Path, what: str) -> Path:
    """The path, expanded; DataError when nothing is there."""
    found = Path(path).expanduser()
    if not found.exists():
        raise DataError(f"{what} is not there", where=found, next_command="posegen doctor")
    return found


def files_below(folder: Path, pattern: str, what: str) -> list[Path]:
    """Files that match, in order of name; DataError when there is none."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise DataError(f"no {what} ({pattern}) in the folder", where=folder, next_command="posegen doctor")
    return found


def image_root(images: str | Path | None, default: Path, inner: str = "") -> Path:
    """The folder that picture names start in: `images`, or the default; one level up where `inner` itself is given."""
    root = default if images is None else existing(images, "the folder of pictures")
    return root.parent if inner and root.name == inner else root


def frame_options(dataset: str, options: dict[str, Any], own: Iterable[str]) -> FrameOptions:
    """FrameOptions from what a factory was given beyond its own options; unknown ones raise ConfigError."""
    valid = [field.name for field in fields(FrameOptions)]
    for name in options:
        if name not in valid:
            near = closest(name, [*valid, *own])
            hint = f"; did you mean {near!r}?" if near else ""
            raise ConfigError(
                f"benchmark {dataset} has no option {name!r}{hint}",
                where=f"benchmark={dataset}",
                choices=[*own, *valid],
            )
    return FrameOptions(**options)


def read_npz(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> dict[str, NDArray]:
    """Arrays of an npz file. Object arrays are pickles and are refused; missing keys are named."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in needed if key not in archive.files]
            if missing:
                raise DataError(
                    f"the file lacks {', '.join(missing)} (it has {', '.join(archive.files)})",
                    where=path,
                    choices=needed,
                )
            arrays = {key: archive[key] for key in (*needed, *optional) if key in archive.files}
    except DataError:
        raise
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise DataError(f"the npz file cannot be read: {error}", where=path) from error
    lengths = {key: len(value) for key, value in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"arrays of unequal length: {lengths}", where=path)
    return arrays


def as_text(values: NDArray) -> list[str]:
    """An array of str or bytes as a list of str."""
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
