"""A user's own views.npz, as people write it by hand: names of any kind, and what would spoil a fit told in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from posegen.errors import DataError
from posegen.renderer.fit.folder import read_views


def write_views(folder: Path, count: int = 2, **changes: object) -> Path:
    """Square pictures of 32 px whose left half is the person, seen from 3 m."""
    person = np.zeros((32, 32), np.uint8)
    person[:, :16] = 255
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(np.full((32, 32, 3), 100 + i, np.uint8)).save(folder / "images" / f"{i:04d}.png")
        Image.fromarray(person).save(folder / "masks" / f"{i:04d}.png")
    arrays: dict[str, object] = {
        "name": np.array([f"{i:04d}" for i in range(count)]), "pose": np.zeros((count, 24, 3)), "betas": np.zeros(10),
        "R": np.tile(np.eye(3), (count, 1, 1)), "t": np.tile([0.0, 0.0, 3.0], (count, 1)),
        "focal": np.full(count, 40.0),
    }  # fmt: skip
    np.savez(folder / "views.npz", **(arrays | changes))  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize("names", [["0000", "0001"], [b"0000", b"0001"], ["0000.png", "0001.JPG"]])
def test_names_may_be_bytes_or_have_a_suffix(tmp_path: Path, names: list) -> None:
    read = read_views(write_views(tmp_path, name=np.array(names)), 16, 9)
    assert len(read) == 2 and read.alpha[:, :, :, :8].min() == 1 and read.alpha[:, :, :, 8:].max() == 0
    assert torch.allclose(read.rgb[1, :, :, :8], torch.tensor(101 / 255))


def test_masks_are_read_as_viewers_show_them(tmp_path: Path) -> None:
    write_views(tmp_path)
    rgba = np.full((32, 32, 4), 255, np.uint8)
    rgba[:, 16:, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "masks" / "0000.png")
    Image.fromarray(rgba[..., 3] // 255).save(tmp_path / "masks" / "0001.png")
    assert read_views(tmp_path, 16, 9).alpha.mean((1, 2, 3)).tolist() == [0.5, 0.5]
    Image.new("L", (32, 32)).save(tmp_path / "masks" / "0001.png")
    with pytest.raises(DataError, match="shows nobody") as told:
        read_views(tmp_path, 16, 9)
    assert told.value.where == str(tmp_path / "masks" / "0001.png")


def test_turned_pictures_and_masks_meet(tmp_path: Path) -> None:
    """A picture that carries an orientation beside a mask that a tool has turned already."""
    write_views(tmp_path)
    for i in range(2):
        (tmp_path / "images" / f"{i:04d}.png").unlink()
        image = Image.new("RGB", (32, 32))
        image.paste((255, 255, 255), (16, 0, 32, 32))  # stored the other way round
        exif = image.getexif()
        exif[274] = 3
        image.save(tmp_path / "images" / f"{i:04d}.jpg", exif=exif, quality=95)
    assert read_views(tmp_path, 16, 9).rgb[:, :, :, :7].min() > 0.9


NAN = np.full((2, 24, 3), np.nan)
FAR = np.tile([0.0, 0.0, 3000.0], (2, 1))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pose": NAN}, "pose holds values that are not finite"),
        ({"t": FAR}, r"would be 0.0\d* px tall(.|\n)*must be in metres"),
        ({"t": -FAR / 1000}, "behind the camera"),
        ({"t": FAR / 1e6}, "e\\+04 px tall"),
        ({"transl": -FAR / 900}, "behind the camera"),
        ({"R": np.zeros((2, 3, 3))}, "R of view '0000' is no rotation"),
        ({"focal": np.array([40.0, -40.0])}, "focal length of view '0001' is not positive"),
        ({"focal": np.array([40.0, 1e7])}, "focal holds values above 1e"),
        ({"name": np.array(["../x", "0001"])}, "leaves the folder"),
        ({"name": np.array([0, 1])}, "where text should be"),
        ({"name": np.array([["0000"], ["0001"]])}, "name has shape"),
        ({"betas": np.zeros((2, 11))}, "betas has shape"),
    ],
)
def test_what_would_spoil_a_fit_is_told(tmp_path: Path, changes: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_views(write_views(tmp_path, **changes), 16, 9)
