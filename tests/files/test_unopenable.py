"""What is no file that can be opened is told as such by every reader of the gate."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from posegen.errors import DataError
from posegen.files.arrays import read_npz
from posegen.files.pictures import read_rgb
from posegen.target.parts import identity

READERS = {
    "picture": lambda path: read_rgb(path, turned=False),
    "arrays": lambda path: read_npz(path, (), ("a",)),
}
NAMES = {
    "nothing.png": "is not there",
    "zero\0byte.png": "is not there",
    "file/below.png": "is not there",
    "folder": "is no regular file",
    "loop": "cannot be opened: Too many levels",
    5000 * "x": "cannot be opened: File name too long",
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:14]))
def test_what_cannot_be_opened_is_told(reader: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DataError, match=NAMES[name]):
        READERS[reader](tmp_path / name)
    assert identity(str(tmp_path / name))  # of a picture that a target names


@pytest.mark.parametrize("reader", READERS)
def test_a_folder_that_may_not_be_entered_is_told(reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refused)
    with pytest.raises(DataError, match="cannot be opened: Permission denied"):
        READERS[reader](tmp_path / "picture.png")
