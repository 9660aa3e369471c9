"""Changes of bytes that need to know nothing of the format: flips, cuts, repeats, numbers of every width."""

from __future__ import annotations

import random

from .format import Mutator

EDGES = (
    0, 1, 2, 3, 4, 8, 15, 16, 127, 128, 255, 256, 1000, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1,
    2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip
FLOATS = (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\x00\x00\x80\xff", b"\xff\xff\x7f\x7f", b"\x01\x00\x00\x00")


def _span(rng: random.Random, data: bytes, most: int = 4096) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + 1 + int(rng.random() ** 3 * most))


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def set_byte(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return (
        data[:at]
        + bytes([rng.choice((0, 1, 9, 10, 32, 45, 48, 57, 127, 128, 255, rng.randrange(256)))])
        + data[at + 1 :]
    )


def set_number(rng: random.Random, data: bytes) -> bytes:
    """A whole number of 1 to 8 bytes, in either order, near the edges or near what the file itself measures."""
    width = rng.choice((1, 2, 4, 4, 8))
    at = rng.randrange(max(1, len(data) - width + 1))
    if rng.random() < 0.7:
        at -= at % width
    value = rng.choice((*EDGES, len(data), len(data) - at, len(data) - at - width, at, at + 1)) + rng.choice(
        (0, 0, 1, -1)
    )
    return data[:at] + (value % 256**width).to_bytes(width, rng.choice(("little", "big"))) + data[at + width :]


def set_float(rng: random.Random, data: bytes) -> bytes:
    value = rng.choice(FLOATS)
    if rng.random() < 0.5:
        value = rng.choice((b"\0" * 6 + b"\xf8\x7f", b"\0" * 6 + b"\xf0\x7f", b"\xff" * 6 + b"\xef\x7f"))
    at = rng.randrange(max(1, len(data) - len(value) + 1))
    at -= at % 4
    return data[:at] + (value if rng.random() < 0.7 else value[::-1]) + data[at + len(value) :]


def change_number(rng: random.Random, data: bytes) -> bytes:
    """Adds a little to a number of some bytes: a count that is one too large."""
    width = rng.choice((1, 2, 4, 8))
    at = rng.randrange(max(1, len(data) - width + 1))
    order = rng.choice(("little", "big"))
    value = int.from_bytes(data[at : at + width], order) + rng.choice((1, -1, 2, -2, 8, -8, 255, -256))
    return data[:at] + (value % 256**width).to_bytes(width, order) + data[at + width :]


def cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.choice((0, 1, 4, 8, len(data) - 1, len(data) // 2, rng.randrange(len(data) + 1)))]


def remove(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def repeat(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:end] + data[start:end] * rng.choice((1, 1, 2, 7)) + data[end:]


def insert(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    count = rng.choice((1, 2, 4, 8, 64, 512))
    new = rng.choice((b"\0" * count, b"\xff" * count, rng.randbytes(count)))
    return data[:at] + new + data[at:]


def move(rng: random.Random, data: bytes) -> bytes:
    (start, end), to = _span(rng, data), rng.randrange(len(data) + 1)
    piece, rest = data[start:end], data[:start] + data[end:]
    return rest[:to] + piece + rest[to:]


def overwrite(rng: random.Random, data: bytes) -> bytes:
    """One part of the file over another: fields where others belong."""
    (start, end), to = _span(rng, data, 256), rng.randrange(len(data) + 1)
    piece = data[start:end] if rng.random() < 0.7 else rng.choice((b"\0", b"\xff")) * (end - start)
    return (data[:to] + piece + data[to + len(piece) :])[: len(data)]


def append(rng: random.Random, data: bytes) -> bytes:
    return data + rng.choice((b"\0" * 8, b"\n", data[: rng.randrange(len(data) + 1)], rng.randbytes(32)))


RAW: tuple[Mutator, ...] = (
    flip_bits, flip_bits, set_byte, set_number, set_number, set_number, set_float, change_number, cut, cut, remove,
    repeat, insert, move, overwrite, append,
)  # fmt: skip
