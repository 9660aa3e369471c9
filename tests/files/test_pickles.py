"""Pickles are read without running anything in them."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from smpl_like import fake_chumpy

from posegen.errors import DataError
from posegen.files.body_records import plain
from posegen.files.pickles import load_pickle


class Attack:
    """Runs a function when it is unpickled by the standard reader."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_command_in_a_pickle_is_refused_by_name_and_does_not_run(tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "executed"
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps({"v_template": Attack(os.system, f"touch {proof}")}, protocol=protocol))
    with pytest.raises(DataError, match=rf"asks for ({os.name}|os|posix)\.system[\s\S]*{path.name}"):
        load_pickle(path)
    assert not proof.exists()


@pytest.mark.parametrize(("function", "argument"), [(eval, "1+1"), (exec, "x=1"), (getattr, "a"), (np.load, "x")])
def test_other_callables_are_refused(tmp_path: Path, function: Any, argument: str) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(pickle.dumps(Attack(function, argument)))
    with pytest.raises(DataError, match=rf"\.{function.__name__} when it is loaded"):
        load_pickle(path)


def test_allowed_constructors_do_not_make_other_classes(tmp_path: Path) -> None:
    # numpy's array constructor asked to build something that is no array
    path = tmp_path / "bad.pkl"
    path.write_bytes(b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncbuiltins\nset\nK\x00\x85U\x01b\x87R.")
    with pytest.raises(DataError, match="array of class"):
        load_pickle(path)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_arrays_come_back_equal(tmp_path: Path, protocol: int) -> None:
    contents = {
        "float": np.linspace(0, 1, 7).reshape(1, 7),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "int": np.arange(5, dtype=np.uint32),
        "scalar": np.float32(2.5),
        "nested": [np.zeros(0), ("text", b"bytes", {"k": 1})],
        "objects": np.array([np.arange(2), np.arange(3)], dtype=object),
    }
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(contents, protocol=protocol))
    back = load_pickle(path)
    for key in ("float", "fortran", "int", "scalar"):
        np.testing.assert_array_equal(back[key], contents[key])
        assert back[key].dtype == contents[key].dtype
    assert back["nested"][1] == ("text", b"bytes", {"k": 1})
    np.testing.assert_array_equal(back["objects"][1], [0, 1, 2])


def test_arrays_of_python_2_are_read(tmp_path: Path) -> None:
    # As Python 2's cPickle writes numpy arrays: raw bytes as a str.
    data = struct.pack("<2d", 1.5, -2.0)
    path = tmp_path / "py2.pkl"
    path.write_bytes(
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85"
        b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10"
        + data
        + b"tb."
    )
    np.testing.assert_array_equal(load_pickle(path), [1.5, -2.0])


@pytest.mark.parametrize("protocol", [0, 2])
def test_chumpy_objects_give_their_numbers_without_chumpy(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "x.pkl"
    with fake_chumpy() as Ch:
        path.write_bytes(pickle.dumps(Ch(np.arange(3.0)), protocol=protocol))
    np.testing.assert_array_equal(plain(load_pickle(path)), [0, 1, 2])


@pytest.mark.parametrize("make", [sparse.csc_matrix, sparse.csr_matrix, sparse.coo_matrix])
def test_sparse_matrices_become_dense(tmp_path: Path, make: Any) -> None:
    dense = np.array([[0, 1.0, 0], [2, 0, 3]])
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(make(dense), protocol=2))
    np.testing.assert_array_equal(plain(load_pickle(path)), dense)


def test_a_pickle_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "short.pkl"
    path.write_bytes(pickle.dumps({"a": np.arange(100)}, protocol=2)[:150])
    with pytest.raises(DataError, match=r"cut short or damaged[\s\S]*short\.pkl"):
        load_pickle(path)


def test_more_names_can_be_allowed_for_a_format(tmp_path: Path) -> None:
    from datetime import date

    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(date(2020, 1, 2)))
    with pytest.raises(DataError, match=r"datetime\.date"):
        load_pickle(path)
    assert load_pickle(path, {("datetime", "date"): date}) == date(2020, 1, 2)
