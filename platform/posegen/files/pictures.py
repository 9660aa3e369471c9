"""The one place that opens pictures: which formats, how large, and what a viewer would show of them.

Pillow tells a format by a file's content, not by its name, and hands PostScript to Ghostscript, a program that runs
what the file says: hence the explicit list. Sizes are looked at before anything is decoded.
"""

from __future__ import annotations

import functools
import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from posegen.errors import PosegenError
from posegen.files.guard import Told, decoding, first_line, regular_file

logger = logging.getLogger(__name__)

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
SHARD_FORMATS = ("PNG", "JPEG")
MOST_PIXELS = 89_000_000  # 10000 x 8900; Pillow itself warns from here on
_WHITE = 255
_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # orientations in which width and height change places
_DEEP = {"I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2", "I;16N": "=u2"}


class _File(io.BufferedReader):
    """A file to read. Asked for more bytes than it has (a PNG's chunk may claim four gigabytes), Python would set aside
    memory for all of them first."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size if size is None else min(size, self._size))


@contextmanager
def _opened(source: str | Path | bytes, told: Told, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """The picture, not decoded yet. What Pillow raises inside the block becomes the reader's error."""
    if isinstance(source, bytes):
        stream: io.BufferedIOBase = io.BytesIO(source)
    else:
        if not os.path.isfile(source):  # one call for a picture that is there: benchmarks read ten thousands
            regular_file(Path(source), told)
        with decoding(told):
            stream = _File(source)
    with stream, decoding(told):
        _check_webp(stream, told)
        try:
            image = Image.open(stream, formats=formats)  # type: ignore[arg-type]
        except UnidentifiedImageError as error:
            raise told.wrong(f"is no intact picture of {', '.join(formats)}") from error
        except Image.DecompressionBombError as error:
            raise told.wrong(f"is far too large; up to {MOST_PIXELS // 1_000_000} megapixels are read") from error
        with image:
            _check_size(image.width, image.height, told)
            yield image


def _check_size(width: int, height: int, told: Told) -> None:
    if width < 1 or height < 1 or width * height > MOST_PIXELS:
        raise told.wrong(f"is {width} x {height} px; up to {MOST_PIXELS // 1_000_000} megapixels are read")


def _check_webp(stream: io.BufferedIOBase, told: Told) -> None:
    """Pillow makes a WebP's canvas while it opens the file, before its size can be asked."""
    head = stream.read(30)
    stream.seek(0)
    if head[:4] != b"RIFF" or head[8:16] != b"WEBPVP8X" or len(head) < 30:
        return  # the other two kinds of WebP hold one frame of at most 16383 px a side, decoded later
    width, height = (1 + int.from_bytes(head[start : start + 3], "little") for start in (24, 27))
    _check_size(width, height, told)


def read_rgb(path: str | Path, *, turned: bool, what: str = "the picture") -> NDArray[np.uint8]:
    """The picture (H,W,3) as a viewer shows it, on white where it is transparent.

    Args:
        turned: whether to turn it as its EXIF orientation says. False for benchmarks, whose annotations are in stored
            pixels; one warning a folder then says that such pictures are there.
    """
    with _opened(path, told := Told(what, path)) as image:
        if not turned:
            _warn_of_orientation(image, Path(path))
        return np.asarray(_rgb(_turned(image) if turned else image, told, over=_WHITE))


def read_colours(path: str | Path, what: str = "the picture") -> NDArray[np.uint8]:
    """The picture (H,W,3) turned as its EXIF orientation says, its colours as stored where it is transparent."""
    with _opened(path, told := Told(what, path)) as image:
        return np.asarray(_rgb(_turned(image), told, over=None))


def read_square(path: str | Path, size_px: int, what: str = "the picture") -> tuple[NDArray[np.uint8], float]:
    """A picture as a viewer shows it, stretched to (S,S,3), and its aspect ratio (width / height)."""
    with _opened(path, told := Told(what, path)) as image:
        shown = _rgb(_turned(image), told, over=_WHITE)
        square = shown.resize((size_px, size_px), Image.Resampling.LANCZOS)
        return np.asarray(square), shown.width / shown.height


def decode_rgb(data: bytes, what: str = "the picture", where: object = None) -> NDArray[np.uint8]:
    """PNG or JPEG bytes -> (H,W,3): pictures that are kept within other files."""
    with _opened(data, told := Told(what, where), SHARD_FORMATS) as image:
        return np.asarray(_rgb(image, told, over=_WHITE))


def picture_size(path: str | Path, what: str = "the picture", turned: bool = False) -> tuple[int, int]:
    """Width and height, px, as stored or turned as its EXIF orientation says; nothing is decoded."""
    with _opened(path, Told(what, path)) as image:
        width, height = image.size
        return (height, width) if turned and orientation_of(image) in _SIDEWAYS else (width, height)


def lies_on_its_side(path: str | Path) -> bool:
    """Whether width and height change places where viewers turn the picture; nothing is decoded. Raises DataError."""
    with _opened(path, Told("the picture", path)) as image:
        return orientation_of(image) in _SIDEWAYS


def read_mask(path: str | Path, what: str = "the mask") -> NDArray[np.float32]:
    """Where the person is: (H,W) in [0,1], turned as its EXIF orientation says.

    Masks come in many dresses: the alpha channel where there is one; a palette of colours as labels, of which 0 is the
    background; grey of 8 or 16 bit; 0 and 1 are stretched. A mask without any value above a half is a DataError.
    """
    with _opened(path, told := Told(what, path)) as image:
        mask = _mask(_turned(image), told)
    if not (mask > 0.5).any():
        raise told.wrong(
            f"shows nobody: no value is above a half (the largest is {float(mask.max()):.3g}); the person must be white"
        )
    return mask


def problem_of(path: str | Path, what: str = "the picture") -> str | None:
    """Why a picture cannot be used, by its head and its end alone (some hundredths of a millisecond); None if it can.

    What is damaged in between shows when it is decoded.
    """
    try:
        with _opened(path, Told(what, path)) as image:
            kind = image.format
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 4096))
            end = file.read()
        if (kind == "PNG" and b"IEND" not in end) or (kind in ("JPEG", "MPO") and b"\xff\xd9" not in end):
            return f"{what} is cut short"
    except PosegenError as error:
        return error.what
    except OSError as error:
        return f"{what} cannot be opened: {first_line(error)}"
    return None


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none that can be read, which is how viewers show it."""
    if image.format != "TIFF" and "exif" not in image.info:
        return 1
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block beside intact pixels: Pillow raises whatever it stumbles over
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _turned(image: Image.Image) -> Image.Image:
    image.load()  # Pillow turns TIFF files by itself, and takes the tag off
    if orientation_of(image) == 1:
        return image
    return ImageOps.exif_transpose(image)


def _warn_of_orientation(image: Image.Image, path: Path) -> None:
    if image.format != "TIFF" and (number := orientation_of(image)) != 1:
        _warn_of_folder(str(path.parent), path.name, number)


@functools.lru_cache(maxsize=4096)
def _warn_of_folder(folder: str, name: str, number: int) -> None:
    """Says it once: functools remembers the folder's first picture, and `_warned` the folder."""
    if folder in _warned:
        return
    _warned.add(folder)
    logger.warning(
        "%s/%s has EXIF orientation %d: pictures with annotations are read as stored, since these count stored pixels; "
        "if they were annotated as viewers show them, turn the files first", folder, name, number,
    )  # fmt: skip


_warned: set[str] = set()


def _rgb(image: Image.Image, told: Told, over: int | None) -> Image.Image:
    """The picture in RGB; `over`: the grey that shows through transparent places, None for the stored colours."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _DEEP or image.mode in ("I", "F"):
        return Image.fromarray(_eight_bits(image, told)).convert("RGB")
    if over is None or (image.mode not in ("RGBA", "LA", "PA", "La", "RGBa") and "transparency" not in image.info):
        return image.convert("RGB")
    shown = image.convert("RGBA")
    if shown.getchannel("A").getextrema()[0] == 255:
        return shown.convert("RGB")
    ground = Image.new("RGBA", shown.size, (over, over, over, 255))
    return Image.alpha_composite(ground, shown).convert("RGB")


def _eight_bits(image: Image.Image, told: Told) -> NDArray[np.uint8]:
    """Grey of 16 bit (65535 is white), or floats from 0 to 1 or to 255, as 8 bit."""
    if image.mode == "F":
        values = np.asarray(image)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
            raise told.wrong("holds floats that are neither from 0 to 1 nor from 0 to 255")
        return (values * (255 if values.max() <= 1 else 1)).round().astype(np.uint8)
    deep = _deep_values(image, told)
    return ((deep.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _deep_values(image: Image.Image, told: Told) -> NDArray:
    """Grey of 16 bit, as numbers from 0 to 65535."""
    if image.mode in _DEEP:
        return np.frombuffer(image.tobytes(), _DEEP[image.mode]).reshape(image.height, image.width)
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise told.wrong("is of 32-bit whole numbers, of which none is agreed to be white; 8 or 16 bit are read")
    return values


def _mask(image: Image.Image, told: Told) -> NDArray[np.float32]:
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if alpha.min() < 255:
            return _stretched(alpha, 255)
    if image.mode == "P":
        colours = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        indices = np.asarray(image)
        seen = colours[np.unique(indices)[np.unique(indices) < len(colours)]]
        if not (seen == seen[:, :1]).all():  # colours stand for labels; a palette of greys is a grey picture
            return (indices > 0).astype(np.float32)
        return _stretched(np.asarray(image.convert("L")), 255)
    if image.mode in _DEEP or image.mode == "I":
        return _stretched(_deep_values(image, told), 65535)
    if image.mode == "F":
        return _stretched(_eight_bits(image, told), 255)
    return _stretched(
        np.asarray(image.convert("RGB").convert("L") if image.mode == "CMYK" else image.convert("L")), 255
    )


def _stretched(values: NDArray, white: int) -> NDArray[np.float32]:
    """0..white -> 0..1, and 0..1 as it is: tools write the person as 1."""
    return values.astype(np.float32) / np.float32(1 if values.max() <= 1 else white)
