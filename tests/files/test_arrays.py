"""Arrays of npy and npz files: what numpy writes is read; what only claims to be an array is one error, in no time."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from posegen.errors import CheckpointError, DataError
from posegen.files.arrays import npz_names, read_all_npz, read_npy, read_npz
from posegen.files.values import finite, one_number, text, texts, whole_number

DOUBLE_QUOTED = b'{"shape": (2, ), "fortran_order": False, "descr": "<f8"}   \n'
KINDS = ["?", "i1", "<i8", ">i4", "u2", "<f2", ">f4", "<f8"]


def npy(descr: str, shape: str, body: bytes = b"", order: str = "False", version: int = 1) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + body


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_what_numpy_writes_is_read_back(tmp_path: Path, kind: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2).astype(kind)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", a=array, f=np.asfortranarray(array))
    np.savez_compressed(tmp_path / "c.npz", a=array)
    read = [
        read_npy(tmp_path / "a.npy"),
        *read_npz(tmp_path / "a.npz", ["a", "f"]).values(),
        read_npz((tmp_path / "c.npz").read_bytes(), ["a"])["a"],
    ]
    for found in read:
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype.newbyteorder("=") and found.flags.writeable


def test_text_other_writers_and_unasked_members(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, name=np.array(["ä", "bc"]), raw=np.array([b"x", b"yz"]), bad=np.array([{}], object), x=np.ones(2))
    read = read_npz(path, ["name", "raw", "x"], ["none"], text=("name", "raw"))
    assert texts(read["name"], "name", path) == ["ä", "bc"] and texts(read["raw"], "raw", path) == ["x", "yz"]
    assert npz_names(path) == ["name", "raw", "bad", "x"] and set(read) == {"name", "raw", "x"}
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("README.txt", "no array")
    with pytest.raises(DataError, match="bad holds Python objects"):
        read_all_npz(path, text=("name", "raw"))
    with pytest.raises(DataError, match="x is of type '<f8' where text should be"):
        read_npz(path, ["x"], text=("x",))
    with pytest.raises(DataError, match="name is of type '<U2' where numbers should be"):
        read_npz(path, ["name"])
    for content in (  # numpy of Python 2, and writers that set the keys in another order
        npy("'<f8'", "(2L,)", bytes(16)),
        b"\x93NUMPY\x02\x00" + struct.pack("<I", len(DOUBLE_QUOTED)) + DOUBLE_QUOTED + bytes(16),
    ):  # fmt: skip
        (tmp_path / "b.npy").write_bytes(content)
        np.testing.assert_array_equal(read_npy(tmp_path / "b.npy"), np.zeros(2))


HOSTILE = {
    "objects": npy("'|O'", "(1,)", bytes(8)),
    "records": npy("[('a', '<f8')]", "(1,)", bytes(8)),
    "void": npy("'|V8'", "(1,)", bytes(8)),
    "dates": npy("'<M8[s]'", "(1,)", bytes(8)),
    "complex": npy("'<c16'", "(1,)", bytes(16)),
    "shape": npy("'<f8'", "(1000000000000,)", bytes(8)),
    "product": npy("'<f8'", "(4294967296, 4294967296)", bytes(8)),
    "negative": npy("'<f8'", "(-1,)", bytes(8)),
    "dimensions": npy("'|b1'", "(" + "1, " * 40 + ")", bytes(1)),
    "digits": npy("'<f8'", "(" + "9" * 5000 + ",)", bytes(8)),
    "nested": npy("'<f8'", "(" * 3000 + ")" * 3000, bytes(8)),
    "code": npy("'<f8'", "(__import__('os').system('true'),)", bytes(8)),
    "text": npy("'<U99999999'", "(1,)", bytes(8)),
    "size": npy("'<f3'", "(1,)", bytes(3)),
    "float of another machine": npy("'<f12'", "(1,)", bytes(12)),
    "cut": npy("'<f8'", "(4,)", bytes(31)),
    "longer": npy("'<f8'", "(4,)", bytes(33)),
    "header": npy("'<f8'", "(4,)", bytes(32))[:30],
    "version": b"\x93NUMPY\x09\x00" + bytes(60),
    "no array": b"hello",
    "empty": b"",
    "order": npy("'<f8'", "(1,)", bytes(8), order="'x'"),
    "twice": npy("'<f8', 'descr': '<f4'", "(2,)", bytes(8)).replace(b"'shape'", b"'other'"),
    "nan": npy("'<f8'", "(1,)", struct.pack("<d", float("nan"))),
    "too large for 32 bit": npy("'<f8'", "(1,)", struct.pack("<d", 1e300)),
}


@pytest.mark.parametrize("order", "<>")
def test_text_of_characters_that_do_not_exist_is_refused(tmp_path: Path, order: str) -> None:
    """Python itself raises a SystemError on them, in whatever touches the text first."""
    for code, good in ((0x10FFFF, True), (0x110000, False), (0xFFFFFFFF, False)):
        (tmp_path / "a.npy").write_bytes(npy(f"'{order}U2'", "(1,)", struct.pack(f"{order}2I", 97, code)))
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.write(tmp_path / "a.npy", "x.npy")
        if good:
            assert read_npz(tmp_path / "a.npz", ["x"], text=("x",))["x"].tolist() == ["a" + chr(code)]
        else:
            with pytest.raises(DataError, match="characters that do not exist"):
                read_npz(tmp_path / "a.npz", ["x"], text=("x",))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_arrays_are_refused_before_memory_is_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.npy").write_bytes(HOSTILE[name])
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", HOSTILE[name])
    tracemalloc.start()
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=r"^the thing: x "):
        read_npz(tmp_path / "a.npz", ["x"], what="the thing", error=CheckpointError)
    with pytest.raises(DataError, match=r"^the array file ") as told:
        read_npy(tmp_path / "a.npy")
    assert told.value.where == str(tmp_path / "a.npy")
    assert tracemalloc.get_traced_memory()[1] < 20e6 and time.monotonic() - start < 2
    tracemalloc.stop()


def zipped(method: int, content: bytes = npy("'<f8'", "(2,)", bytes(16)), flags: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(zipfile.ZipInfo("x.npy"), content, method)
    raw = bytearray(buffer.getvalue())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(mark) + at] |= flags
    return bytes(raw)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (zipped(zipfile.ZIP_LZMA), "packed in another way"),
        (zipped(zipfile.ZIP_BZIP2), "packed in another way"),
        (zipped(zipfile.ZIP_STORED, flags=1), "encrypted"),
        (zipped(zipfile.ZIP_DEFLATED)[:60], "cut short or damaged"),
        (zipped(zipfile.ZIP_STORED).replace(bytes(16), bytes(15) + b"\1", 1), "Bad CRC"),
        (b"PK\x05\x06" + bytes(18), "lacks x"),
        (b"nonsense", "not a zip file"),
        (b"", "not a zip file"),
    ],
)
def test_damaged_archives_are_told_apart(content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as told:
        read_npz(content, ["x"], where="http://service")
    assert told.value.where == "http://service"


def test_bombs_are_refused_and_unused_ones_are_not_unpacked(tmp_path: Path) -> None:
    count = 400 << 20
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("x.npy", npy("'<f8'", "(2,)", bytes(16)))
        with archive.open("bomb.npy", "w", force_zip64=True) as member:
            member.write(npy("'|u1'", f"({count},)"))
            for _ in range(count >> 20):
                member.write(bytes(1 << 20))
    np.testing.assert_array_equal(read_npz(tmp_path / "a.npz", ["x"])["x"], [0, 0])
    for read in (lambda p: read_npz(p, ["bomb"]), read_all_npz):
        with pytest.raises(DataError, match="would unfold to more than 256 MB"):
            read(tmp_path / "a.npz")


@pytest.mark.parametrize("value", [120, 120.0, np.array(120), np.array([120.0]), np.array([[120]]), np.float32(120)])
def test_one_number_of_any_shape(value: object) -> None:
    assert one_number(value, "rate", "f") == 120.0 and whole_number(value, "rate", "f") == 120


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.array([1.0, 2.0]), r"must be one number, it has shape \(2,\)"), (np.array([]), "must be one number"),
        ("120", "is no number but text"), (np.array(None, object), "is no number but objects"),
        (np.nan, "is not finite"), (1e9, "must lie between"), (2.5, "no whole number"),
    ],
)  # fmt: skip
def test_what_is_not_one_number_is_told(value: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        whole_number(value, "rate", "f", high=1000)


def test_texts_of_any_kind() -> None:
    assert (
        text(np.array(b"m"), "gender", "f") == text(np.array(["m"]), "gender", "f") == text("m", "gender", "f") == "m"
    )
    for wrong in (3, np.array([b"a", b"b"]), b"\xff", np.array([1.0])):
        with pytest.raises(DataError, match="gender"):
            text(wrong, "gender", "f")
    with pytest.raises(DataError, match="must be a list of texts"):
        texts(np.ones(3), "name", "f")


def test_finite_looks_at_every_piece() -> None:
    array = np.zeros((3, 700_000), np.float32)
    assert finite(array) and finite(array.T) and finite(np.arange(3))
    array[2, -1] = np.inf
    assert not finite(array) and not finite(array.T)
    assert finite(np.array([3e38])) and not finite(np.array([1e39])) and not finite(np.array([np.nan]))


def test_numbers_that_torch_has_not_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy("'<f16'", "(2,)", bytes(32)))
    with pytest.raises(DataError, match="unknown type '<f16'"):
        read_npy(tmp_path / "a.npy")
