"""Pictures: what a viewer shows, for every mode; nothing but the listed formats; sizes before decoding."""

from __future__ import annotations

import io
import logging
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posegen.benchmarks.readers.crop import read_picture
from posegen.errors import DataError
from posegen.files.pictures import decode_rgb, picture_size, problem_of, read_colours, read_mask, read_rgb, read_square

RAMP = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n(made) (w) file closefile\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.eps", "a.tif"])
def test_postscript_is_never_handed_on_whatever_its_name(tmp_path: Path, name: str, monkeypatch) -> None:
    path = tmp_path / name
    path.write_bytes(POSTSCRIPT)
    monkeypatch.setattr("subprocess.check_call", lambda *a, **k: pytest.fail("a program was started"))
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: pytest.fail("a program was started"))
    for read in (read_picture, read_colours, read_mask, picture_size, lambda p: decode_rgb(p.read_bytes())):
        with pytest.raises(DataError, match="no intact picture of PNG, JPEG"):
            read(path)
    assert "no intact picture" in str(problem_of(path))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_keeps_its_levels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"g.{suffix}"
    Image.fromarray(RAMP).save(path)
    shown = read_rgb(path, turned=False)
    expected = np.round(RAMP / 257).astype(np.uint8)
    assert shown.shape == (64, 64, 3) and np.abs(shown[..., 1].astype(int) - expected).max() == 0
    assert len(np.unique(shown)) == 256
    assert np.abs(read_mask(path) - RAMP / 65535).max() < 1e-6


def test_big_endian_tiff_floats_and_other_modes(tmp_path: Path) -> None:
    big = Image.frombytes("I;16B", (64, 64), RAMP.astype(">u2").tobytes())
    big.save(tmp_path / "b.tif")
    np.testing.assert_array_equal(read_rgb(tmp_path / "b.tif", turned=False)[..., 0], np.round(RAMP / 257))
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)).save(tmp_path / "f.tif")
    np.testing.assert_array_equal(read_rgb(tmp_path / "f.tif", turned=False)[0, :, 0], [0, 128, 255])
    Image.fromarray(np.array([[-1.0, np.nan]], np.float32)).save(tmp_path / "n.tif")
    with pytest.raises(DataError, match="floats"):
        read_rgb(tmp_path / "n.tif", turned=False)
    Image.fromarray(np.array([[0, 70000]], np.int32)).save(tmp_path / "i.tif")
    with pytest.raises(DataError, match="32-bit"):
        read_rgb(tmp_path / "i.tif", turned=False)
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(tmp_path / "c.tif")
    np.testing.assert_array_equal(read_rgb(tmp_path / "c.tif", turned=False)[0, 0], [0, 255, 255])
    Image.new("LA", (4, 4), (10, 0)).save(tmp_path / "la.png")
    assert read_rgb(tmp_path / "la.png", turned=False)[0, 0].tolist() == [255, 255, 255]  # a viewer's white ground
    assert read_colours(tmp_path / "la.png")[0, 0].tolist() == [10, 10, 10]


def test_transparency_of_palettes_and_half_alpha(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([200, 0, 0, 0, 200, 0])
    palette.save(tmp_path / "p.png", transparency=0)
    np.testing.assert_array_equal(read_rgb(tmp_path / "p.png", turned=False)[0], [[255, 255, 255], [0, 200, 0]])
    Image.new("RGBA", (2, 2), (0, 0, 0, 128)).save(tmp_path / "half.png")
    assert read_rgb(tmp_path / "half.png", turned=False)[0, 0].tolist() == [127, 127, 127]
    Image.new("RGBA", (2, 2), (9, 8, 7, 255)).save(tmp_path / "solid.png")
    assert read_rgb(tmp_path / "solid.png", turned=False)[0, 0].tolist() == [9, 8, 7]


def turned_jpeg(path: Path, orientation: int) -> Path:
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (0, 0, 20, 20))  # the left half, stored
    exif = image.getexif()
    exif[274] = orientation
    image.save(path, exif=exif, quality=95)
    return path


def test_orientation_turns_photos_and_views_but_not_benchmarks(tmp_path: Path, caplog) -> None:
    path = turned_jpeg(tmp_path / "e.jpg", 6)
    assert read_square(path, 16)[1] == 0.5
    shown = read_colours(path)
    assert shown.shape == (40, 20, 3) and shown[:16].min() > 200 and shown[24:].max() < 50
    with caplog.at_level(logging.WARNING):
        stored = read_picture(path)
        turned_jpeg(tmp_path / "e2.jpg", 3)
        read_picture(tmp_path / "e2.jpg")
    assert stored.shape == (20, 40, 3) and stored[:, :16].min() > 200
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 1 and "e.jpg has EXIF orientation 6" in warned[0]
    upside_down = turned_jpeg(tmp_path / "u.jpg", 3)
    assert read_mask(upside_down)[:, 24:].min() > 0.5  # turned by half: the white half is on the right


def test_a_damaged_exif_block_does_not_cost_the_picture(tmp_path: Path) -> None:
    Image.new("RGB", (8, 4), (1, 2, 3)).save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read_colours(tmp_path / "x.jpg").shape == (4, 8, 3)


def test_masks_in_their_dresses(tmp_path: Path) -> None:
    person = np.zeros((8, 8), bool)
    person[2:4, 2:4] = True
    rgba = np.full((8, 8, 4), 255, np.uint8)
    rgba[..., 3] = 255 * person
    labels = Image.fromarray(person.astype(np.uint8), "P")
    labels.putpalette([0, 0, 0, 128, 0, 0])
    inverted = Image.fromarray((~person).astype(np.uint8), "P")  # a palette of greys: index 0 is white
    inverted.putpalette([255, 255, 255, 0, 0, 0])
    dresses = {
        "rgba": Image.fromarray(rgba),
        "la": Image.fromarray(rgba[..., 2:]),
        "ones": Image.fromarray(person.astype(np.uint8)),
        "white": Image.fromarray(person.astype(np.uint8) * 255),
        "rgb": Image.fromarray(np.repeat(person[..., None] * np.uint8(255), 3, 2)),
        "opaque": Image.fromarray(np.concatenate([np.repeat(person[..., None] * np.uint8(255), 3, 2),
                                                  np.full((8, 8, 1), 255, np.uint8)], 2)),
        "bits": Image.fromarray(person),
        "deep": Image.fromarray(person.astype(np.uint16) * 65535),
        "deep_ones": Image.fromarray(person.astype(np.uint16)),
        "labels": labels,
        "inverted": inverted,
    }  # fmt: skip
    for name, image in dresses.items():
        image.save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.png"), person.astype(np.float32), err_msg=name)
    Image.fromarray(np.full((8, 8), 100, np.uint8)).save(tmp_path / "dark.png")
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    for name in ("dark", "black"):
        with pytest.raises(DataError, match="shows nobody") as told:
            read_mask(tmp_path / f"{name}.png")
        assert told.value.where == str(tmp_path / f"{name}.png")


IDAT = struct.pack(">I", 8) + b"IDAT" + bytes(12)


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + IDAT


def webp_header(width: int, height: int) -> bytes:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<II", 10, 2) + sizes + bytes(40)


def test_sizes_are_looked_at_before_anything_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_header(13_000, 13_000))
    (tmp_path / "b.png").write_bytes(png_header(200_000, 200_000))
    (tmp_path / "c.webp").write_bytes(webp_header(16_000, 16_000))
    for name, said in (("a.png", "13000 x 13000"), ("b.png", "far too large"), ("c.webp", "16000 x 16000")):
        for read in (read_picture, read_mask, read_colours):
            with pytest.raises(DataError, match=said):
                read(tmp_path / name)
        assert "megapixels" in str(problem_of(tmp_path / name))


def test_cut_and_damaged_pictures_are_one_error(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    for kind in ("png", "jpg", "webp", "bmp", "tif"):
        Image.fromarray(noise).save(tmp_path / f"whole.{kind}")
        assert problem_of(tmp_path / f"whole.{kind}") is None
        assert picture_size(tmp_path / f"whole.{kind}") == (80, 60)
        whole = (tmp_path / f"whole.{kind}").read_bytes()
        for share in (0.0, 0.02, 0.5, 0.9):
            cut = tmp_path / f"cut.{kind}"
            cut.write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(DataError):
                read_rgb(cut, turned=True)
            if kind in ("png", "jpg"):
                assert problem_of(cut) is not None
    with pytest.raises(DataError, match="is not there"):
        read_rgb(tmp_path / "none.png", turned=False)
    with pytest.raises(DataError, match="no regular file"):
        read_rgb(tmp_path, turned=False)


def test_pictures_within_shards_are_png_or_jpeg(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (5, 6, 7)).save(buffer, "PNG")
    assert decode_rgb(buffer.getvalue())[0, 0].tolist() == [5, 6, 7]
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3)).save(buffer, "TIFF")
    with pytest.raises(DataError, match=r"no intact picture of PNG, JPEG$"):
        decode_rgb(buffer.getvalue())


def test_no_more_memory_is_set_aside_than_the_file_has_bytes(tmp_path: Path) -> None:
    """A PNG whose only piece of pixels claims four gigabytes; all its pixels are there."""
    Image.new("RGB", (32, 24)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    at = data.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(data[:at] + struct.pack(">I", 0xFE000089) + data[at + 4 :])
    tracemalloc.start()
    try:
        assert not read_rgb(tmp_path / "a.png", turned=False).any()
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
