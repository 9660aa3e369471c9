"""Opens a user's files: one small function for each kind, so that every reader opens them in the same careful way."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.errors import DataError

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
MAX_JSON_BYTES = 2 << 30


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
    from posegen.benchmarks.readers.files import read_npz

    return read_npz(path, (), keys)


def open_picture(path: str | Path) -> NDArray[np.uint8]:
    """A picture (H,W,3) uint8 RGB, as stored. Raises DataError."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=PICTURE_FORMATS) as image:
                return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"the picture cannot be read: {error}", where=path, choices=PICTURE_FORMATS) from error


def picture_size(path: str | Path) -> tuple[int, int]:
    """Width and height px, without decoding the picture. Raises DataError."""
    from PIL import Image

    try:
        with Image.open(path, formats=PICTURE_FORMATS) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"the picture cannot be read: {error}", where=path, choices=PICTURE_FORMATS) from error
