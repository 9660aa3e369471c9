"""Files that macOS and unpackers leave beside the real ones are passed over; bad ones are counted and named."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posegen.benchmarks.readers.files import files_below, read_npz
from posegen.body.amass import read_motion
from posegen.body.motion.folder import read_motions
from posegen.errors import DataError
from posegen.files.listing import files_matching
from posegen.renderer.surroundings.photos import PhotoShelf, folder_photos

APPLE_DOUBLE = b"\x00\x05\x16\x07" + bytes(4092)


def write_motion(path: Path, frames: int = 20, rate: object = 120.0, **more: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"poses": np.zeros((frames, 156)), "trans": np.zeros((frames, 3)), "mocap_framerate": rate, **more}
    np.savez(path, **arrays)  # type: ignore[arg-type]


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("b/x.pkl", "a.pkl", "._a.pkl", "b/._x.pkl", "__MACOSX/a.pkl", ".hidden/a.pkl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(APPLE_DOUBLE)
    assert files_matching(tmp_path, "**/*.pkl") == [tmp_path / "a.pkl", tmp_path / "b" / "x.pkl"]
    assert files_below(tmp_path, "*.pkl", "table") == [tmp_path / "a.pkl"]
    below_a_hidden_one = tmp_path / ".hidden"
    assert files_matching(below_a_hidden_one, "*.pkl") == [below_a_hidden_one / "a.pkl"]


def test_files_of_amass_that_hold_no_motion_are_named_and_the_rest_is_used(tmp_path: Path, caplog) -> None:
    write_motion(tmp_path / "s" / "m_poses.npz")
    (tmp_path / "s" / "._m_poses.npz").write_bytes(APPLE_DOUBLE)
    (tmp_path / "s" / "cut.npz").write_bytes((tmp_path / "s" / "m_poses.npz").read_bytes()[:300])
    np.savez(tmp_path / "s" / "other.npz", betas=np.zeros(10))
    with caplog.at_level(logging.WARNING):
        clips = read_motions(tmp_path, None, 30.0)
    assert [clip.name for clip in clips] == ["s/m_poses"] and len(clips[0]) == 5
    (warned,) = [record.getMessage() for record in caplog.records]
    assert "2 of 3 files hold no motion" in warned and "cut.npz" in warned and "other.npz" in warned
    with pytest.raises(DataError, match="cut short or damaged"):
        read_motions(tmp_path, ["s/cut"], 30.0)
    (tmp_path / "s" / "m_poses.npz").unlink()
    with pytest.raises(DataError, match="none of the folder's 2"):
        read_motions(tmp_path, None, 30.0)


@pytest.mark.parametrize("rate", [120, np.array([120.0]), np.array([[120.0]])])
def test_frame_rates_of_any_shape(tmp_path: Path, rate: object) -> None:
    write_motion(tmp_path / "a.npz", rate=rate)
    assert read_motion(tmp_path / "a.npz").fps == 30.0 and len(read_motion(tmp_path / "a.npz")) == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mocap_framerate": np.array([120.0, 60.0])}, "must be one number"),
        ({"mocap_framerate": np.array(None, object)}, "Python objects"),
        ({"mocap_framerate": 1e-4}, "between 1 and 10000"),
        ({"trans": np.full((20, 3), 1e300)}, "not finite"),
        ({"trans": np.full((20, 3), 1e9)}, "no places in m"),
        ({"poses": np.full((20, 156), np.nan)}, "not finite"),
    ],
)
def test_motions_that_are_none(tmp_path: Path, change: dict, said: str) -> None:
    write_motion(tmp_path / "a.npz", **change)
    with pytest.raises(DataError, match=said):
        read_motion(tmp_path / "a.npz")


def test_one_gender_counts_for_all_rows_and_other_scalars_are_named(tmp_path: Path) -> None:
    rows = {"imgname": np.array(["a.jpg"] * 3), "center": np.zeros((3, 2)), "scale": np.ones(3)}
    np.savez(tmp_path / "a.npz", **rows, gender=np.array("male"))
    read = read_npz(tmp_path / "a.npz", ("imgname", "center"), ("gender",))
    assert read["gender"].tolist() == ["male"] * 3
    np.savez(tmp_path / "b.npz", **(rows | {"scale": np.array(1.0)}))
    with pytest.raises(DataError, match="scale: a single value where 3 rows should be"):
        read_npz(tmp_path / "b.npz", ("imgname", "center", "scale"))


def write_photos(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8)).save(folder / f"{i:02d}.jpg")


def test_bad_photos_are_named_at_the_start_and_leave_the_pools_as_without_them(tmp_path: Path, caplog) -> None:
    write_photos(tmp_path / "good", 12)
    write_photos(tmp_path / "mixed", 12)
    mixed = tmp_path / "mixed"
    (mixed / "cut.jpg").write_bytes((mixed / "00.jpg").read_bytes()[:500])
    Image.new("1", (20_000, 20_000)).save(mixed / "bomb.png")
    (mixed / "._00.jpg").write_bytes(APPLE_DOUBLE)
    with caplog.at_level(logging.WARNING):
        pools = {pool: folder_photos(mixed, pool) for pool in ("train", "validation", "test")}
    for pool, files in pools.items():
        assert [f.name for f in files] == [f.name for f in folder_photos(tmp_path / "good", pool)]
    (warned,) = [record.getMessage() for record in caplog.records]  # once, not for each pool
    assert "2 of 14 photos" in warned and "cut.jpg: the photo is cut short" in warned and "bomb.png" in warned


def test_a_photo_that_proves_damaged_when_drawn_gives_its_place_to_the_next(tmp_path: Path, caplog) -> None:
    write_photos(tmp_path, 3)
    files = sorted(tmp_path.glob("*.jpg"))
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (60, 60, 3), np.uint8)).save(tmp_path / "bad.png")
    content = bytearray((tmp_path / "bad.png").read_bytes())
    content[100:3000] = bytes(2900)
    (tmp_path / "bad.png").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        shelf = PhotoShelf([files[0], tmp_path / "bad.png", files[1]], 32)
        taken, aspect = shelf[1]
    assert (taken[0] == shelf[2][0][0]).all() and aspect == pytest.approx(40 / 30)
    assert "bad.png" in caplog.text and "next photo takes its place" in caplog.text
    with pytest.raises(DataError, match="the photo is cut short or damaged"):
        PhotoShelf([tmp_path / "bad.png"], 32)[0]
