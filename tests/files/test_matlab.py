"""MATLAB files: what is there is read, and whatever is wrong with a file is one clear error."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from posegen.errors import DataError
from posegen.files.matlab import read_mat


def test_variables_are_read_back(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"a": np.arange(6.0).reshape(2, 3)})
    np.testing.assert_array_equal(read_mat(tmp_path / "a.mat", ["a"], "no file")["a"], [[0, 1, 2], [3, 4, 5]])


def test_damaged_and_foreign_files_are_told(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "whole.mat", {"a": np.arange(1000.0)}, do_compression=True)
    whole = (tmp_path / "whole.mat").read_bytes()
    contents = {
        "half": whole[: len(whole) // 2], "header": whole[:100], "altered": whole[:200] + bytes(100) + whole[300:],
        "nonsense": b"nonsense", "text": b"hello world " * 50, "empty": b"",
    }  # fmt: skip
    for name, content in contents.items():
        path = tmp_path / f"{name}.mat"
        path.write_bytes(content)
        with pytest.raises(DataError, match="no clip ") as told:
            read_mat(path, ["a"], "no clip", "see the layout")
        assert told.value.where == str(path) and told.value.next_command == "see the layout"
    with pytest.raises(DataError, match="no clip "):
        read_mat(tmp_path / "missing.mat", ["a"], "no clip")


def test_newer_matlab_is_told_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "new.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["a"] = np.zeros(3)
    with path.open("r+b") as raw:  # MATLAB's own header in front of the HDF5 part
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + bytes([0, 2]) + b"IM")
    with pytest.raises(DataError, match=r"no clip is of MATLAB 7\.3 \(HDF5\)[\s\S]*-v7"):
        read_mat(path, ["a"], "no clip")
