"""Pictures as benchmarks, backgrounds and masks read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from posegen.benchmarks.readers.crop import read_picture
from posegen.benchmarks.readers.frames import FrameRecord, load_frame
from posegen.files.pictures import decode_rgb, picture_size, problem_of, read_mask
from posegen.renderer.surroundings.photos import PhotoShelf

from ..format import Format
from ..pictures import JPEG, OTHER, PNG
from ..raw import RAW


def pixels() -> np.ndarray:
    """(24,32,3): a bright person on a coloured ground."""
    ramp = np.linspace(0, 255, 24 * 32).reshape(24, 32)
    found = np.stack([ramp, ramp[::-1], ramp[:, ::-1]], -1).astype(np.uint8)
    found[6:18, 10:22] = 250
    return found


def formats() -> list[Format]:
    def picture(name: str, **options: Any) -> Any:
        def build(folder: Path) -> Path:
            Image.fromarray(pixels()).save(folder / name, **options)
            return folder / name

        return build

    def mask(folder: Path) -> Path:
        Image.fromarray((pixels()[..., 0] > 240).astype(np.uint8) * 255).save(folder / "mask.png")
        return folder / "mask.png"

    return [
        Format("picture.png", picture("a.png"), _picture, PNG, RAW, _check),
        Format("picture.jpg", picture("a.jpg", quality=80), _picture, JPEG, RAW, _check),
        Format("picture.webp", picture("a.webp"), _picture, OTHER, RAW, _check, weight=0.5),
        Format("picture.tif", picture("a.tif", compression="tiff_lzw"), _picture, OTHER, RAW, _check, weight=0.5),
        Format("picture.bmp", picture("a.bmp"), _picture, OTHER, RAW, _check, weight=0.5),
        Format(
            "photo.jpg",
            picture("a.jpg", quality=80),
            lambda path: (problem_of(path), PhotoShelf([path], 16)[0]),
            JPEG,
            RAW,
        ),
        Format("mask.png", mask, read_mask, PNG, RAW, _check_mask),
        Format(
            "encoded.png",
            picture("a.png"),
            lambda path: decode_rgb(path.read_bytes(), where=path),
            PNG,
            RAW,
            weight=0.5,
        ),
    ]


def _picture(path: Path) -> Any:
    found = read_picture(path)
    record = FrameRecord("a", str(path), (10.0, 10.0), 0.1, "group", 0)
    return found, picture_size(path), load_frame(record, 16)


def _check(read: Any) -> None:
    found, (width, height), cut = read
    assert found.dtype == np.uint8 and found.shape == (height, width, 3), "pixels"
    assert cut.shape == (3, 16, 16) and cut.min() >= 0 and cut.max() <= 1, "crop"


def _check_mask(mask: Any) -> None:
    assert mask.ndim == 2 and mask.min() >= 0 and mask.max() <= 1, "mask"
