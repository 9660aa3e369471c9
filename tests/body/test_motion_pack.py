"""Packs: small, exact to a hundredth of a degree, checked; folders of all formats; the command that converts them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from written_motion import bvh_text, write_acclaim

from posegen.assets.command import main
from posegen.body.mocap import CMU_CLIPS, load_clips
from posegen.body.motion import pack as pack_module
from posegen.body.motion.clip import Clip
from posegen.body.motion.folder import read_motions
from posegen.body.motion.pack import CMU_CREDIT, CMU_PACK, CMU_SHA256, cmu_clips, read_pack, write_pack
from posegen.body.rotations import aa_to_matrix, geodesic_rad, matrix_to_aa, random_rotation
from posegen.errors import DataError

REST_M = np.array([[0, 0, 0], [0.07, -0.08, 0], [-0.07, -0.08, 0], [0, 0.1, 0], [0.1, -0.47, 0], [-0.1, -0.47, 0],
    [0, 0.25, 0], [0.09, -0.87, -0.04], [-0.09, -0.87, -0.04], [0, 0.3, 0], [0.12, -0.93, 0.08], [-0.12, -0.93, 0.08],
    [0, 0.51, 0], [0.08, 0.42, 0], [-0.08, 0.42, 0], [0, 0.6, 0], [0.19, 0.45, 0], [-0.19, 0.45, 0], [0.45, 0.44, 0],
    [-0.45, 0.44, 0], [0.71, 0.45, 0], [-0.71, 0.45, 0], [0.8, 0.44, 0], [-0.8, 0.44, 0]])  # fmt: skip


def clips(seed: int = 0) -> list[Clip]:
    g = torch.Generator().manual_seed(seed)
    out = []
    for name, frames, fps in (("a", 7, 15.0), ("b/c", 30, 29.97)):
        pose = matrix_to_aa(random_rotation((frames, 24), g))
        out.append(Clip(name, pose, 4 * torch.randn(frames, 3, generator=g), fps))
    return out


def test_a_pack_keeps_rotations_within_a_tenth_of_a_degree(tmp_path: Path) -> None:
    """Any rotation at all, half turns among them."""
    written = clips()
    written[0].pose[0, :3] = torch.tensor([torch.pi, 0.0, 0.0])
    digest = write_pack(written, tmp_path / "p.npz", "from a test")
    assert digest == hashlib.sha256((tmp_path / "p.npz").read_bytes()).hexdigest()
    assert digest == write_pack(written, tmp_path / "q.npz", "from a test"), "the same bytes for the same clips"
    for mine, theirs in zip(written, read_pack(tmp_path / "p.npz"), strict=True):
        assert (mine.name, mine.fps, len(mine)) == (theirs.name, theirs.fps, len(theirs))
        angle = geodesic_rad(aa_to_matrix(mine.pose.double()), aa_to_matrix(theirs.pose.double()))
        assert float(torch.rad2deg(angle).max()) < 0.1
        assert float((mine.transl - theirs.transl).abs().max()) < 1e-3
    assert [clip.name for clip in read_pack(tmp_path / "p.npz", ["b/c"])] == ["b/c"]


def test_the_shipped_pack_is_whole_credited_and_of_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = cmu_clips()
    assert tuple(clip.name for clip in found) == CMU_CLIPS
    assert sum(map(len, found)) == 9726 and {clip.fps for clip in found} == {15.0}
    assert 1e6 < CMU_PACK.stat().st_size < 2e6
    assert hashlib.sha256(CMU_PACK.read_bytes()).hexdigest() == CMU_SHA256
    with np.load(CMU_PACK, allow_pickle=False) as archive:
        assert str(archive["credit"]) == CMU_CREDIT
    up = torch.cat([aa_to_matrix(clip.pose[:, 0])[:, 1, 1] for clip in found])
    assert float((up > 0.5).float().mean()) > 0.85, "mostly upright"
    heights = torch.cat([clip.transl[:, 1] for clip in found if clip.name.startswith(("cmu_02", "cmu_03"))])
    assert float(heights.min()) > 0.4 and float(heights.max()) < 1.6
    # Elbows and knees bend as people's do: 4 left knee, 5 right knee, about +x.
    knees = torch.cat([clip.pose[:, 4:6, 0] for clip in found])
    assert float((knees > -0.35).float().mean()) > 0.995
    (walk,) = load_clips(["cmu_02_01"])
    ahead = aa_to_matrix(walk.pose[:, 0])[:-1, :, 2]
    assert float(((walk.transl[1:] - walk.transl[:-1]) * ahead).sum(-1).mean()) * 15 > 0.5  # m/s
    monkeypatch.setattr(pack_module, "CMU_SHA256", "0" * 64)
    pack_module._checked_cmu_pack.cache_clear()
    with pytest.raises(DataError, match="is damaged"):
        cmu_clips(["cmu_02_01"])
    pack_module._checked_cmu_pack.cache_clear()


def test_damaged_packs_are_named(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    write_pack(clips(), path, "")
    with np.load(path) as archive:
        good = dict(archive)
    for change, message in (
        ({"lengths": np.array([7, 31], np.int32)}, "do not fit"),
        ({"lengths": np.array([-1, 38], np.int32)}, "do not fit"),
        ({"pose": good["pose"].astype(np.float32)}, "do not fit"),
        ({"fps": np.array([15.0, np.nan])}, "fps holds values that are not finite"),
        ({"fps": np.array([15.0, 1e-300])}, "numbers that no motion has"),  # no end of frames, once resampled
        ({"transl_step": np.array(np.inf)}, "transl_step holds values that are not finite"),
        ({"format": np.array("another")}, "no pack of motion"),
    ):
        np.savez(path, **{**good, **change})
        with pytest.raises(DataError, match=message):
            read_pack(path)
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(DataError, match="cut short or damaged"):
        read_pack(path)
    with pytest.raises(DataError, match="one name"):
        write_pack([*clips(), *clips()], path, "")


def test_a_folder_of_all_formats(tmp_path: Path) -> None:
    (tmp_path / "walks").mkdir()
    write_acclaim(tmp_path / "walks", [{"ltibia": (float(i),)} for i in range(17)])
    (tmp_path / "run.bvh").write_text(bvh_text({}, np.zeros((9, 3)), 1 / 60))
    pose = np.zeros((4, 24, 3), np.float32)
    np.savez(tmp_path / "poses.npz", pose=pose, transl=np.ones((4, 3)), fps=30.0)
    write_pack(clips(), tmp_path / "packed.npz", "")
    read = {clip.name: clip for clip in read_motions(tmp_path, fps=30.0, rest_joints_m=REST_M)}
    assert {name: len(clip) for name, clip in read.items()} == {
        "a": 13, "b/c": 30, "poses": 4, "run": 5, "walks/07_01": 5
    }  # fmt: skip
    assert all(clip.fps == 30 for clip in read.values())
    slow = read_motions(tmp_path, ["walks/07_01"], 30.0, amc_fps=60.0, rest_joints_m=REST_M)
    assert [len(clip) for clip in slow] == [9]
    assert [clip.name for clip in read_motions(tmp_path / "packed.npz", ["a"], 15.0)] == ["a"]
    (tmp_path / "walks" / "07.asf").rename(tmp_path / "walks" / "08.asf")
    (tmp_path / "walks" / "09.asf").write_text("")
    with pytest.raises(DataError, match=r"no skeleton[\s\S]*08, 09"):
        read_motions(tmp_path, ["walks/07_01"], rest_joints_m=REST_M)
    left = {clip.name for clip in read_motions(tmp_path, rest_joints_m=REST_M)}
    assert left == {"a", "b/c", "poses", "run"}  # of a whole folder it is left out, with a warning


def test_the_command_packs_a_users_motion(
    assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "asfamc"
    folder.mkdir()
    write_acclaim(folder, [{"rtibia": (60.0,)} for _ in range(33)])
    out = tmp_path / "mine.npz"
    assert main(["motion", str(folder), "--out", str(out), "--prefix", "cmu_", "--credit", "me"]) == 0
    said = capsys.readouterr().out
    assert "1 clips" in said and "posegen run mocap.path=" in said
    assert hashlib.sha256(out.read_bytes()).hexdigest() in said
    (clip,) = load_clips(source=out, fps=15.0)
    assert (clip.name, len(clip), clip.fps) == ("cmu_07_01", 5, 15.0)
    with pytest.raises(DataError, match=r"not written over(.|\n)*--overwrite"):
        main(["motion", str(folder), "--out", str(out)])
    with pytest.raises(DataError, match=r"is an \.npz file"):
        main(["motion", str(folder), "--out", str(tmp_path / "x.bin")])
    with pytest.raises(DataError, match="not possible"):
        main(["motion", str(folder), "--out", str(out), "--overwrite", "--fps", "0"])
