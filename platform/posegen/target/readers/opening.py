"""Opens a target's files through the gate, with what its readers know of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.errors import DataError
from posegen.files.arrays import read_npz
from posegen.files.pictures import lies_on_its_side, picture_size, read_rgb

__all__ = ["lies_on_its_side", "open_arrays", "open_json", "open_picture", "picture_size"]

MAX_JSON_BYTES = 2 << 30
TEXT = ("joint_set", "names", "pictures", "imgname", "sequences", "left_out")
UNBOUNDED = ("keypoints", "openpose", "part", "boxes")  # where nobody was seen, files hold NaN


def open_json(path: Path) -> Any:
    """The content of a JSON file. Raises DataError."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise DataError(f"a JSON file of more than {MAX_JSON_BYTES >> 30} GiB", where=path)
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"the JSON file cannot be read: {reason}", where=path) from error


def open_arrays(path: Path, keys: tuple[str, ...]) -> dict[str, NDArray]:
    """Those of the named arrays that an npz file has. Raises DataError."""
    return read_npz(path, (), keys, text=TEXT, unbounded=UNBOUNDED)


def open_picture(path: str | Path, turned: bool = False) -> NDArray[np.uint8]:
    """A picture (H,W,3) uint8 RGB, as stored or turned as viewers show it. Raises DataError."""
    return read_rgb(path, turned=turned)
