"""The formats of files that posegen writes are numbered: what a newer version wrote is refused by name, not misread.

Files without a number are of version 1, the first. A format's number goes up when files of it can no longer be read by
the version before, or mean something else there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from posegen import __version__
from posegen.errors import DataError, PosegenError
from posegen.files.atomic import replacing
from posegen.files.guard import first_line

FORMAT_KEY = "posegen_format"
OTHER_VERSION = "install the posegen that made it"


def checked_format(
    found: Any, known: int, what: str, where: object, cure: str, error: type[PosegenError] = DataError
) -> int:
    """The version that a file says it is of; 1 where it says nothing.

    Args:
        found: as it stands in the file, or None.
        known: the newest version that is read.
        what: "the gallery".
        cure: what else can be done than to install a newer posegen.
    """
    if found is None:
        return 1
    if isinstance(found, np.ndarray) and found.size == 1:
        found = found.reshape(-1)[0].item()
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise error(f"{what} is damaged: its format is {str(found)[:40]!r}", where=where, next_command=cure)
    if found > known:
        raise error(
            f"{what} has format {found}; this version of posegen ({__version__}) reads up to {known}", where=where,
            next_command=f"{OTHER_VERSION}, or: {cure}",
        )  # fmt: skip
    return found


def save_torch(content: Any, path: Path | str) -> None:
    """torch.save through a file of Python's: on a full disk torch's own writer raises errors that do not say so."""
    import torch

    with open(path, "wb") as file:
        try:
            torch.save(content, file)
            file.flush()
        except RuntimeError as error:  # torch's, about what the file's own error has left half done
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def save_state(state: dict[str, Any], path: Path | str, version: int) -> Path:
    """Writes a state of torch's, whole or not at all, with its format's version beside its keys."""
    with replacing(path) as partial:
        save_torch({**state, FORMAT_KEY: version}, partial)
    return Path(path)


def load_state(
    path: Path | str, known: int, what: str, cure: str, *, error: type[PosegenError] = DataError,
    map_location: Any = "cpu",
) -> dict[str, Any]:  # fmt: skip
    """A state that a run itself wrote with `save_state`; weights of users go through posegen.files.torch_files.

    Raises the error where it is missing, damaged, or of a newer format.
    """
    import torch

    try:
        state = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as why:  # torch raises what it likes for damaged files
        raise error(f"{what} cannot be read: {first_line(why)}", where=path, next_command=cure) from why
    if not isinstance(state, dict):
        raise error(f"{what} is damaged: it holds a {type(state).__name__}", where=path, next_command=cure)
    checked_format(state.pop(FORMAT_KEY, None), known, what, path, cure, error)
    return state
