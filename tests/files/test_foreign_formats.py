"""HDF5, MATLAB and CDF files that lead elsewhere, never end, or claim more than they hold."""

from __future__ import annotations

import os
import struct
import sys
import time
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from posegen.errors import DataError
from posegen.files.cdf import read_variable
from posegen.files.hdf5 import Hdf5File
from posegen.files.matlab import read_mat

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from tiny_cdf import write_cdf


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A pipe that nobody writes into: who opens it waits for ever."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_hdf5_arrays_rows_and_references_are_read_back(tmp_path: Path) -> None:
    array = np.arange(24.0).reshape(4, 6)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = array
        file.create_dataset("packed", data=array, chunks=(2, 3), compression="gzip", shuffle=True, fletcher32=True)
        file["bool"] = np.array([True, False])
        file.create_dataset("refs", data=np.array([[file["a"].ref], [file["packed"].ref]], dtype=h5py.ref_dtype))
    with Hdf5File(tmp_path / "a.h5") as read:
        assert sorted(read.names()) == ["a", "bool", "packed", "refs"] and "a" in read and "b" not in read
        np.testing.assert_array_equal(read.array("a"), array)
        np.testing.assert_array_equal(read.array("packed"), array)
        np.testing.assert_array_equal(read.array("bool"), [True, False])
        rows = read.rows("packed")
        assert rows.shape == (4, 6)
        np.testing.assert_array_equal(rows[2], array[2])
        references = read.references("refs")
        np.testing.assert_array_equal(read.followed(references[1, 0], "second"), array)
        with pytest.raises(DataError, match=r"lacks b, c \(it has a, bool"):
            read.require(["a", "b", "c"])
        with pytest.raises(DataError, match="refs holds no numbers"):
            read.array("refs")


def test_hdf5_leads_nowhere_else(tmp_path: Path, pipe: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource(str(pipe), "x", (4,))
    growing = h5py.VirtualLayout((4,), "f8", maxshape=(None,))
    growing[:] = h5py.VirtualSource(str(pipe), "x", (4,), maxshape=(None,))[:]
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file["array"] = np.zeros(3)
        file["soft"] = h5py.SoftLink("/array")
        file["external"] = h5py.ExternalLink(str(pipe), "/x")
        file.create_virtual_dataset("virtual", layout)
        file.create_virtual_dataset("growing", growing)
        file.create_dataset("raw", (4,), "f8", external=[(str(pipe), 0, 32)])
        file.create_group("group")
        file["text"] = ["a", "b"]
        file["record"] = np.zeros(2, [("a", "f8")])
        file["nan"] = np.array([np.nan])
        file["huge"] = h5py.Empty("f8")
        file.create_dataset("claims", (10**12,), "f8", chunks=(1000,))
        file.create_dataset("pieces", (4_000_000, 1), "f8", chunks=(1, 1))
        file.create_dataset("piece", (2**27,), "f8", chunks=(2**27,))
    start = time.monotonic()
    with Hdf5File(tmp_path / "a.h5", "the labels") as read:
        for name, said in {
            "soft": "link to elsewhere", "external": "link to elsewhere", "virtual": "stored in other files",
            "growing": "stored in other files", "raw": "stored in other files", "group": "is a group",
            "text": "holds no numbers", "record": "holds no numbers", "nan": "not finite", "huge": "is empty",
            "claims": "pieces", "pieces": "pieces", "piece": "pieces of 1024 MB", "none": "is missing",
        }.items():  # fmt: skip
            assert name == "none" or name in read
            with pytest.raises(DataError, match=rf"the labels: {name} .*{said}"):
                read.array(name)
        assert np.isnan(read.array("nan", finite=False)).all()
    assert time.monotonic() - start < 5
    for content in (b"", b"nonsense", (tmp_path / "a.h5").read_bytes()[:600]):
        (tmp_path / "b.h5").write_bytes(content)
        with pytest.raises(DataError, match=r"HDF5|cut short"):
            Hdf5File(tmp_path / "b.h5")
    with pytest.raises(DataError, match="no regular file"):
        Hdf5File(pipe)


def test_a_packed_piece_of_hdf5_that_is_a_bomb_is_refused(tmp_path: Path) -> None:
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(400)) + packer.flush()
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        bomb = file.create_dataset("bomb", (1000, 100), "f8", chunks=(1000, 100), compression="gzip")
        bomb.id.write_direct_chunk((0, 0), packed)
        file.create_dataset(
            "noise", data=rng.random((400, 400)), chunks=(400, 400), compression="gzip", fletcher32=True
        )
    with Hdf5File(tmp_path / "a.h5") as read:
        with pytest.raises(DataError, match="bomb holds a piece that would unfold"):
            read.array("bomb")
        assert 0 < read.array("noise").min() < read.array("noise").max() < 1  # a large piece that is none


@pytest.mark.parametrize("packed", [False, True])
def test_matlab_numbers_and_cells(tmp_path: Path, packed: bool) -> None:
    cells = np.empty((3, 1), object)
    for i in range(3):
        cells[i, 0] = np.arange(4.0).reshape(2, 2) + i
    wanted = {
        "a": np.arange(6.0).reshape(2, 3), "single": np.ones((1, 2), np.float32),
        "small": np.array([[1, 200]], np.uint8),
        "mask": np.array([[True, False]]), "long_name_of_a_variable_0123456789": np.array([[-3]], np.int16),
    }  # fmt: skip
    variables = {**wanted, "cells": cells, "text": "hello", "s": {"x": 1.0}}
    scipy.io.savemat(tmp_path / "a.mat", variables, do_compression=packed)
    read = read_mat(tmp_path / "a.mat", [*wanted, "cells"], "the file", optional=["none"])
    assert set(read) == {*wanted, "cells"}
    for name, array in wanted.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype
    assert read["cells"].shape == (3, 1)
    np.testing.assert_array_equal(read["cells"][2, 0], cells[2, 0])
    for name, said in (("text", "is text"), ("s", "is a structure"), ("other", "lacks other")):
        with pytest.raises(DataError, match=said):
            read_mat(tmp_path / "a.mat", [name], "the file")


def test_every_changed_byte_of_a_matlab_file_ends_well(tmp_path: Path) -> None:
    """The array's class, its dimensions and its tags among them: scipy's reader dies on some of these."""
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = np.ones((2, 2)), np.arange(3.0)
    scipy.io.savemat(tmp_path / "a.mat", {"a": np.ones((2, 3)), "c": cells})
    whole = (tmp_path / "a.mat").read_bytes()
    path, outcomes = tmp_path / "b.mat", []
    for at in range(124, len(whole)):
        for value in (0, 1, 15, 127, 255):
            path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            try:
                outcomes.append(read_mat(path, ["a", "c"], "the file")["a"].shape == (2, 3))
            except DataError:
                outcomes.append(False)
    assert 0.1 < np.mean(outcomes) < 0.9


def test_a_packed_matlab_bomb_is_refused(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"a": np.zeros(2)})
    plain = (tmp_path / "a.mat").read_bytes()
    claim = 400 << 20
    body = struct.pack("<II", 14, claim) + plain[136:192] + struct.pack("<II", 9, claim - 64)
    packer = zlib.compressobj(1)
    packed = packer.compress(body) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(400)) + packer.flush()
    (tmp_path / "b.mat").write_bytes(plain[:128] + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(DataError, match="would unfold to more than 256 MB"):
        read_mat(tmp_path / "b.mat", ["a"], "the file")


def test_cdf_chains_that_lead_back_to_themselves_end(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.float32).reshape(1, 5, 12)
    write_cdf(tmp_path / "a.cdf", "Pose", values)
    whole = (tmp_path / "a.cdf").read_bytes()
    np.testing.assert_array_equal(read_variable(tmp_path / "a.cdf", "Pose"), values)
    vdr = 8 + 312 + 84
    (vxr,) = struct.unpack_from(">q", whole, vdr + 28)
    changed = {
        "list of variables": whole[: vdr + 12]
        + struct.pack(">q", vdr)
        + whole[vdr + 20 :].replace(b"Pose", b"Rose", 1),
        "index leads back": whole[: vxr + 12] + struct.pack(">q", vxr) + whole[vxr + 20 :],
        "outside of itself": whole[: vdr + 28] + struct.pack(">q", -500) + whole[vdr + 36 :],
        "unfold": whole[: vdr + 24] + struct.pack(">i", 2**31 - 1) + whole[vdr + 28 :],
        "records are missing": whole[: vdr + 24] + struct.pack(">i", 7) + whole[vdr + 28 :],
    }
    for said, content in changed.items():
        (tmp_path / "b.cdf").write_bytes(content)
        with pytest.raises(DataError, match=said):
            read_variable(tmp_path / "b.cdf", "Pose")
    for at in range(0, len(whole), 3):  # whatever is changed, an array or the one error
        (tmp_path / "b.cdf").write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            read_variable(tmp_path / "b.cdf", "Pose")
        except DataError:
            continue
