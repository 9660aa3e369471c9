"""Where pictures lie and how they are read, as a target's files tell it.

A picture below the file's folder is told relative to it, so that a run's target can be copied, moved or taken over
whole; any other by its absolute path. Files before format 2 tell paths as they were given. A file of format 3 counts
pixels in pictures as viewers show them, turned by their EXIF orientation; where they are as stored, it is of format 2.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FORMAT = 3
_PLACES, _TURNED = 2, 3  # the first formats that tell them


def told_places(pictures: Iterable[str], file: Path) -> NDArray[np.str_]:
    """Paths of pictures as a file tells them."""
    folder = os.path.join(os.path.abspath(file.parent), "")
    places = (os.path.abspath(picture) for picture in pictures)
    return np.array([place.removeprefix(folder).replace(os.sep, "/") for place in places], np.str_)


def found_places(told: Iterable[str], file: Path, version: int) -> tuple[str, ...]:
    """Paths of the pictures that a file of a format tells."""
    return tuple(told) if version < _PLACES else tuple(str(file.parent / place) for place in told)


def told_format(turned: bool) -> NDArray[np.int64]:
    """The format of a file whose pictures are turned, or not."""
    return np.array([_TURNED if turned else _PLACES])


def found_turned(version: int) -> bool:
    """Whether the pictures of a file of a format are turned."""
    return version >= _TURNED
