"""Motion: the embedded clips move like people, AMASS files are read in their original layouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from posegen.assets.making.deepmimic import read_clip
from posegen.body.amass import read_motion
from posegen.body.joint_sets import SMPL24
from posegen.body.mocap import EMBEDDED_CLIPS, Clip, load_clips, resampled
from posegen.body.model import BodyModel, load_body
from posegen.body.rotations import aa_to_matrix, geodesic_rad, matrix_to_aa
from posegen.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def body(assets: Path) -> BodyModel:
    return load_body(resolution="low")


def joints_of(clip: Clip, body: BodyModel) -> dict[str, torch.Tensor]:
    joints = body.joints(aa_to_matrix(clip.pose), torch.zeros(len(clip), 10), clip.transl)
    return dict(zip(SMPL24.joints, joints.unbind(1), strict=True))


def test_all_clips_are_there(assets: Path) -> None:
    clips = load_clips()
    assert tuple(clip.name for clip in clips) == EMBEDDED_CLIPS
    assert sum(map(len, clips)) == 1620
    assert all(clip.pose.shape == (len(clip), 24, 3) and clip.pose.dtype == torch.float32 for clip in clips)
    assert all(torch.isfinite(clip.pose).all() and torch.isfinite(clip.transl).all() for clip in clips)


def test_walking_is_upright_ahead_and_on_the_ground(body: BodyModel) -> None:
    (walk,) = load_clips(["walk"])
    joints = joints_of(walk, body)
    assert (joints["head"][:, 1] > joints["pelvis"][:, 1] + 0.4).all()
    ankles = torch.minimum(joints["left_ankle"][:, 1], joints["right_ankle"][:, 1])
    assert (joints["pelvis"][:, 1] > ankles + 0.7).all()
    assert float(ankles.abs().max()) < 0.25  # the lower foot stays near the ground, y = 0
    ahead = aa_to_matrix(walk.pose[:, 0])[:, :, 2]  # the body's z axis in the world
    step = walk.transl[1:] - walk.transl[:-1]
    assert float((step * ahead[:-1]).sum(-1).mean()) * walk.fps > 0.5  # m/s


@pytest.mark.parametrize("clip", ["walk", "run"])
def test_knees_bend_backwards_and_elbows_forwards(body: BodyModel, clip: str) -> None:
    (motion,) = load_clips([clip])
    body_frame = Clip(motion.name, motion.pose.clone(), 0 * motion.transl, motion.fps)
    body_frame.pose[:, 0] = 0
    joints = joints_of(body_frame, body)
    for side in ("left", "right"):
        thigh = joints[f"{side}_knee"] - joints[f"{side}_hip"]
        shin = joints[f"{side}_ankle"] - joints[f"{side}_knee"]
        bend = torch.linalg.cross(thigh, shin)[:, 0]  # about +x: the shin goes backwards
        assert float(bend.max()) > 0.02 and float(bend.min()) > -0.02
        upper = joints[f"{side}_elbow"] - joints[f"{side}_shoulder"]
        lower = joints[f"{side}_wrist"] - joints[f"{side}_elbow"]
        assert float(torch.linalg.cross(upper, lower)[:, 0].mean()) < -0.01  # the forearm goes forwards


def test_arms_hang_down_in_walking(body: BodyModel) -> None:
    joints = joints_of(load_clips(["walk"])[0], body)
    for side in ("left", "right"):
        assert (joints[f"{side}_elbow"][:, 1] < joints[f"{side}_shoulder"][:, 1] - 0.1).all()


def test_a_mirrored_clip_is_the_mirror_image(body: BodyModel) -> None:
    clip, mirrored = load_clips(["punch"], mirror=True)
    assert mirrored.name == "punch_mirrored"
    ours, theirs = joints_of(clip, body), joints_of(mirrored, body)
    flip = torch.tensor([-1.0, 1.0, 1.0])
    for name in ("left_wrist", "right_ankle", "head"):
        other = name.replace("left", "R").replace("right", "left").replace("R", "right")
        torch.testing.assert_close(theirs[other], ours[name] * flip, atol=1e-4, rtol=0)


def test_unknown_clips_name_the_choices(assets: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown motion clip 'swim'[\s\S]*backflip"):
        load_clips(["swim"])


def spinning(frames: int, fps: float, rate_rad: float) -> Clip:
    pose = torch.zeros(frames, 24, 3)
    pose[:, 5, 0] = rate_rad * torch.arange(frames) / fps
    transl = torch.arange(frames)[:, None] / fps * torch.tensor([1.0, 0.0, -2.0])
    return Clip("spinning", pose, transl, fps)


@pytest.mark.parametrize(("source", "target"), [(120.0, 30.0), (24.0, 60.0), (50.0, 30.0)])
def test_resampling_keeps_a_steady_turn_steady(source: float, target: float) -> None:
    clip = resampled(spinning(49, source, 1.3), target)
    assert clip.fps == target
    assert len(clip) == int(48 * target / source + 1e-6) + 1
    seconds = torch.arange(len(clip)) / target
    torch.testing.assert_close(clip.pose[:, 5, 0], 1.3 * seconds, atol=1e-5, rtol=0)
    torch.testing.assert_close(clip.transl[:, 2], -2 * seconds, atol=1e-5, rtol=0)


def amass_file(path: Path, joints: int, rate_key: str, frames: int = 9, fps: float = 120.0) -> np.ndarray:
    g = np.random.default_rng(joints)
    poses = 0.3 * g.normal(size=(1, joints, 3)) * np.ones((frames, 1, 1))
    up = matrix_to_aa(torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])).numpy()  # y-up person in a z-up world
    poses[:, 0] = up
    trans = np.tile([0.1, 0.2, 0.9], (frames, 1))
    np.savez(
        path, poses=poses.reshape(frames, -1), trans=trans, betas=np.zeros(16), dmpls=np.zeros((frames, 8)),
        gender="neutral", **{rate_key: fps},
    )  # fmt: skip
    return poses


@pytest.mark.parametrize(
    ("joints", "rate_key", "hands"), [(52, "mocap_framerate", (22, 37)), (55, "mocap_frame_rate", (25, 40))]
)
def test_amass_releases_are_read(tmp_path: Path, joints: int, rate_key: str, hands: tuple[int, int]) -> None:
    poses = amass_file(tmp_path / "clip_poses.npz", joints, rate_key)
    clip = read_motion(tmp_path / "clip_poses.npz")
    assert len(clip) == 3 and clip.fps == 30
    assert float(geodesic_rad(aa_to_matrix(clip.pose[:, 0]), torch.eye(3).expand(3, 3, 3)).max()) < 1e-3
    torch.testing.assert_close(clip.transl[0], torch.tensor([0.1, 0.9, -0.2]))  # z up becomes y up
    torch.testing.assert_close(clip.pose[0, 1:22], torch.tensor(poses[0, 1:22]).float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(clip.pose[0, 22:], torch.tensor(poses[0, list(hands)]).float(), atol=1e-5, rtol=0)


def test_a_folder_of_motions(tmp_path: Path) -> None:
    (tmp_path / "CMU" / "01").mkdir(parents=True)
    amass_file(tmp_path / "CMU" / "01" / "a_poses.npz", 52, "mocap_framerate")
    amass_file(tmp_path / "b_poses.npz", 55, "mocap_frame_rate")
    np.savez(tmp_path / "CMU" / "01" / "shape.npz", gender="male", betas=np.zeros(16))
    assert [clip.name for clip in load_clips(source=tmp_path)] == ["CMU/01/a_poses", "b_poses"]
    assert [clip.name for clip in load_clips(["b_poses.npz"], source=tmp_path, fps=60)] == ["b_poses"]
    with pytest.raises(DataError, match=r"no motion 'c'[\s\S]*b_poses"):
        load_clips(["c"], source=tmp_path)


def test_bad_motion_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no AMASS \.npz file"):
        load_clips(source=tmp_path)
    with pytest.raises(DataError, match="no such motion folder"):
        load_clips(source=tmp_path / "gone")
    np.savez(tmp_path / "x.npz", betas=np.zeros(10))
    with pytest.raises(DataError, match=r"not an AMASS motion[\s\S]*betas"):
        read_motion(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", poses=np.zeros((4, 63)), trans=np.zeros((4, 3)), mocap_framerate=30)
    with pytest.raises(DataError, match=r"shape \(4, 63\)[\s\S]*\(T,156\)"):
        read_motion(tmp_path / "y.npz")
    np.savez(tmp_path / "z.npz", poses=np.full((4, 156), np.nan), trans=np.zeros((4, 3)), mocap_framerate=30)
    with pytest.raises(DataError, match="not finite"):
        read_motion(tmp_path / "z.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "y.npz").read_bytes()[:700])
    with pytest.raises(DataError, match="cut short"):
        read_motion(tmp_path / "cut.npz")


def test_a_deepmimic_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "humanoid3d_x.txt"
    path.write_text(json.dumps({"Frames": [[0.1] * 12]}))
    with pytest.raises(ValueError, match=r"44 numbers, found shape \(1, 12\)"):
        read_clip(path)
