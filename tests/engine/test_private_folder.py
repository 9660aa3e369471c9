"""Ray's folder is this user's alone, and short enough for sockets, wherever home and TMPDIR are."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from posegen.engine import private_folder
from posegen.engine.private_folder import RAY_ADDS_BYTES, SOCKET_PATH_BYTES, ray_folder, short_name
from posegen.errors import EngineError


@pytest.fixture
def short():
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as folder:
        yield Path(folder)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_for_this_user_alone_and_found_again(short):
    chosen = {"RAY_TMPDIR": str(short)}
    before = os.umask(0)
    try:
        place = ray_folder(environment=chosen)
    finally:
        os.umask(before)
    assert place == short / f"posegen-{os.getuid()}" / "ray"
    assert mode(place.parent) == 0o700
    place.parent.chmod(0o777)
    assert ray_folder(environment=chosen) == place and mode(place.parent) == 0o700
    assert ray_folder("other", chosen) == place.with_name("other")


def test_rays_longest_socket_fits(short):
    place = ray_folder(environment={"RAY_TMPDIR": str(short)})
    longest = place / "session_2026-11-27_00-32-59_094010_4194304" / "sockets" / "dash_MetricsHead"
    assert len(str(longest)) - len(str(place)) == RAY_ADDS_BYTES
    assert len(str(longest)) <= SOCKET_PATH_BYTES


def test_a_chosen_folder_that_is_too_long_is_told_and_a_long_tmpdir_is_gone_round(short, monkeypatch):
    long = short / ("x" * 60)
    with pytest.raises(EngineError, match=rf"(?s)too long for Ray's sockets: at most \d+ bytes, it has .*{long}"):
        ray_folder(environment={"RAY_TMPDIR": str(long)})
    assert not long.exists()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert ray_folder(environment={}).parent.parent == Path("/tmp")


def test_a_link_or_a_folder_of_somebody_else_is_not_taken(short, monkeypatch):
    chosen, target = {"RAY_TMPDIR": str(short)}, short / "theirs"
    target.mkdir()
    (short / f"posegen-{os.getuid()}").symlink_to(target)
    with pytest.raises(EngineError, match="somebody else's"):
        ray_folder(environment=chosen)
    assert list(target.iterdir()) == []
    (short / f"posegen-{os.getuid()}").unlink()
    me = os.getuid()
    monkeypatch.setattr(private_folder.os, "getuid", lambda: me + 1)
    (short / f"posegen-{me + 1}").mkdir()
    with pytest.raises(EngineError, match="somebody else's"):
        ray_folder(environment=chosen)


def test_what_cannot_be_written_is_told(short):
    (short / "file").write_text("")
    with pytest.raises(EngineError, match=r"(?s)cannot be made.*RAY_TMPDIR"):
        ray_folder(environment={"RAY_TMPDIR": str(short / "file")})


def test_short_names_differ():
    assert len(short_name("/a")) == 8 and short_name("/a") != short_name("/b")
