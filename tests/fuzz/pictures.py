"""Changes of pictures: modes, formats, chunks whose sums are right, sizes that are declared and not there."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
from PIL import Image

from .format import Mutators
from .raw import EDGES

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "TGA", "ICO", "JPEG2000", "PCX", "SGI")


def other_picture(rng: random.Random, data: bytes) -> bytes:
    """The same picture in another mode, format or size, with turning marks, transparency or several frames."""
    picture = Image.open(io.BytesIO(data))  # our own sample
    size = rng.choice((picture.size, picture.size, (1, 1), (1, 5000), (3000, 2), (7, 5)))
    picture = picture.resize(size)
    mode = rng.choice(_MODES)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    elif mode == "F":
        values = np.asarray(picture.convert("L")).astype(np.float32)
        values[0, 0] = rng.choice((np.nan, np.inf, -5.0, 1e30, 1.0))
        picture = Image.fromarray(values)
    else:
        picture = picture.convert("RGB").convert(mode) if mode not in ("LAB", "PA", "LA") else picture.convert("RGB")
    exif = Image.Exif()
    if rng.random() < 0.4:
        exif[274] = rng.choice((1, 3, 6, 8, 0, 9, 65535))
    out = io.BytesIO()
    more = {"save_all": True, "append_images": [picture.copy()]} if rng.random() < 0.2 else {}
    picture.save(out, rng.choice(_FORMATS), exif=exif, **more)
    return out.getvalue()


def png_chunk(rng: random.Random, data: bytes) -> bytes:
    """One chunk of a PNG changed, dropped, doubled or put in; its sum is right."""
    chunks = _chunks(data)
    index = rng.randrange(len(chunks))
    kind, body = chunks[index]
    what = rng.randrange(6)
    if what == 0:
        del chunks[index]
    elif what == 1:
        chunks.insert(index, (kind, body))
    elif what in (2, 3):
        head = bytearray(chunks[0][1])
        at = rng.choice((0, 4, 8, 9, 10, 11, 12))
        if at < 8:
            head[at : at + 4] = struct.pack(">I", rng.choice((0, 1, 7, 65535, 20_000, 100_000, 2**31 - 1, 2**32 - 1)))
        else:
            head[at] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        chunks[0] = (chunks[0][0], bytes(head))
    elif what == 4:
        extra = (
            (b"tRNS", b"\0" * rng.choice((1, 2, 6, 300))), (b"PLTE", b"\1\2\3" * rng.choice((1, 256, 400))),
            (b"gAMA", b"\0" * 4),
            (b"iCCP", b"a\0\0" + zlib.compress(b"x" * 100_000)), (b"zTXt",
            b"a\0\0" + zlib.compress(b"\0" * 30_000_000)),
            (b"eXIf", b"II*\0\x08\0\0\0\xff\xff"), (b"acTL", b"\0\0\0\5\0\0\0\0"), (b"IDAT",
            zlib.compress(b"\0" * 5_000_000)),
        )  # fmt: skip
        chunks.insert(rng.randrange(1, len(chunks)), rng.choice(extra))
    else:
        chunks[index] = (kind, body[: len(body) // 2])
    return data[:8] + b"".join(
        struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks
    )


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    if data[:4] != b"\x89PNG":
        raise ValueError("no PNG")
    found, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def jpeg_segment(rng: random.Random, data: bytes) -> bytes:
    """A field of one of a JPEG's segments: sizes, components, tables, lengths."""
    if data[:2] != b"\xff\xd8":
        raise ValueError("no JPEG")
    places = [at for at in range(2, min(len(data) - 20, 2000)) if data[at] == 0xFF and 0xC0 <= data[at + 1] <= 0xFE]
    at = rng.choice(places) + rng.randrange(1, 20)
    width = rng.choice((1, 2))
    return data[:at] + (rng.choice(EDGES) % 256**width).to_bytes(width, "big") + data[at + width :]


def other_kind(rng: random.Random, data: bytes) -> bytes:
    """What is no picture under a picture's name."""
    size = struct.pack("<I", 12)
    return rng.choice((
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"GIF89a" + b"\xff" * 40,
        b"BM" + struct.pack("<IIII", 54, 0, 54, 40) + struct.pack("<iiHHI", 40_000, -40_000, 1, 24, 0) + b"\0" * 40,
        b"P6 60000 60000 255\n" + b"\0" * 100, b"RIFF" + size + b"WEBPVP8 " + size + b"\0" * 12,
        b"II*\0\x08\0\0\0\xff\x7f" + b"\1" * 200,
        b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xd9", b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 50, data[:2] * 500,
    ))  # fmt: skip


PNG = Mutators((other_picture,), (png_chunk, png_chunk, png_chunk, other_kind))
JPEG = Mutators((other_picture,), (jpeg_segment, jpeg_segment, jpeg_segment, other_kind))
OTHER = Mutators((other_picture,), (other_kind,))
