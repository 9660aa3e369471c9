"""Retargeting: limbs point where the source's do, knees and elbows bend as SMPL's, any rest pose and unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from written_motion import bvh_text, write_acclaim

from posegen.body.joint_sets import SMPL24
from posegen.body.kinematics import forward_kinematics
from posegen.body.motion.asf_amc import read_amc, read_asf
from posegen.body.motion.bvh import read_bvh
from posegen.body.motion.clip import Clip
from posegen.body.motion.names import map_joints, plain
from posegen.body.motion.retarget import retarget, smallest_turn, turn_about
from posegen.body.motion.source import SourceMotion
from posegen.body.rotations import aa_to_matrix
from posegen.errors import DataError

# A person's rest joints, m: T-pose, x left, y up, z ahead; forearms slant a little, as SMPL's do.
REST = {
    "pelvis": (0, 0, 0), "spine1": (0, 0.11, -0.02), "spine2": (0, 0.25, -0.01), "spine3": (0, 0.3, 0.01),
    "neck": (0, 0.51, -0.03), "head": (0, 0.6, 0.02),
    **{
        f"{side}_{name}": (s * x, y, z)
        for side, s in (("left", 1), ("right", -1))
        for name, (x, y, z) in {
            "hip": (0.07, -0.08, 0.0), "knee": (0.1, -0.47, 0.0), "ankle": (0.09, -0.87, -0.04),
            "foot": (0.12, -0.93, 0.08), "collar": (0.08, 0.42, -0.02), "shoulder": (0.19, 0.45, -0.03),
            "elbow": (0.45, 0.44, -0.06), "wrist": (0.71, 0.45, -0.06), "hand": (0.8, 0.44, -0.07),
        }.items()
    },
}  # fmt: skip
REST_M = np.array([REST[name] for name in SMPL24.joints])
LIMBS = [
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("left", "right")
    for a, b in (("hip", "knee"), ("knee", "ankle"), ("ankle", "foot"), ("shoulder", "elbow"), ("elbow", "wrist"))
]


def posed(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """World rotations (T,24,3,3) and joints (T,24,3)."""
    turns, joints = forward_kinematics(aa_to_matrix(clip.pose.double()), torch.from_numpy(REST_M))
    return turns.numpy(), (joints + clip.transl.double()[:, None]).numpy()


def directions_apart_deg(source: SourceMotion, clip: Clip, turn: np.ndarray | None = None) -> float:
    """The largest angle between a limb's bone and the source's."""
    limbs, points = map_joints(source).limbs, source.positions()
    _, joints = posed(clip)
    worst = 0.0
    for a, b in LIMBS:
        if b not in limbs:
            continue
        there = points[:, limbs[b]] - points[:, limbs[a]]
        there = there if turn is None else there @ turn.T
        here = joints[:, SMPL24.index(b)] - joints[:, SMPL24.index(a)]
        cosine = (there * here).sum(1) / np.linalg.norm(there, axis=1) / np.linalg.norm(here, axis=1)
        worst = max(worst, float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).max()))
    return worst


def moving(frames: int = 40, seed: int = 0) -> dict[str, np.ndarray]:
    """Angles of a lively person, smooth in time; deg, Z, X, Y."""
    g = np.random.default_rng(seed)
    t = np.linspace(0, 2 * np.pi, frames)[:, None]
    out = {}
    for name, reach in (("Hips", 40), ("Spine", 15), ("Chest", 15), ("Neck", 20), ("Head", 20)):
        out[name] = reach * np.sin(t + g.uniform(0, 6, 3))
    for side in ("Left", "Right"):
        for name, reach in (("Shoulder", 10), ("Arm", 70), ("Hand", 30), ("UpLeg", 45), ("Foot", 20)):
            out[side + name] = reach * np.sin(t + g.uniform(0, 6, 3))
        bend = 55 + 50 * np.sin(t[:, 0] + g.uniform(0, 6))
        out[f"{side}Leg"] = np.stack([0 * bend, bend, 0 * bend], 1)  # about x: the shin goes back
        out[f"{side}ForeArm"] = np.stack([0 * bend, -bend, 0 * bend], 1)  # arms hang: the forearm comes ahead
    return out


@pytest.fixture
def bvh(tmp_path: Path) -> SourceMotion:
    path = tmp_path / "a.bvh"
    angles = moving()
    path.write_text(bvh_text(angles, np.tile([30.0, 90.0, -20.0], (40, 1)), 1 / 30))
    return read_bvh(path)


def test_limbs_point_where_the_sources_do(bvh: SourceMotion) -> None:
    clip = retarget(bvh, REST_M)
    assert clip.pose.shape == (40, 24, 3) and clip.fps == pytest.approx(30, rel=1e-4)
    assert directions_apart_deg(bvh, clip) < 0.5


def test_the_hips_are_where_the_sources_are_at_the_legs_scale(bvh: SourceMotion) -> None:
    _, joints = posed(retarget(bvh, REST_M))
    middle = joints[:, [SMPL24.index("left_hip"), SMPL24.index("right_hip")]].mean(1)
    limbs, points = map_joints(bvh).limbs, bvh.positions()
    own = points[:, [limbs["left_hip"], limbs["right_hip"]]].mean(1)
    legs = sum(np.linalg.norm(REST_M[SMPL24.index(f"left_{b}")] - REST_M[SMPL24.index(f"left_{a}")])
               for a, b in (("hip", "knee"), ("knee", "ankle")))  # fmt: skip
    scale = legs / (np.hypot(1, 38) + np.hypot(37, 2))  # the file is in centimetres, its legs are short
    np.testing.assert_allclose(middle, scale * own, atol=2e-3)


def test_trunk_and_head_turn_with_the_source(bvh: SourceMotion) -> None:
    turns, _ = posed(retarget(bvh, REST_M))
    for joint, theirs in (("pelvis", "Hips"), ("spine3", "Chest"), ("head", "Head")):
        np.testing.assert_allclose(turns[:, SMPL24.index(joint)], bvh.rotations[:, bvh.joints.index(theirs)], atol=1e-5)


def hinge_angles(clip: Clip, joint: str) -> np.ndarray:
    """(T,3) rad: the joint's own rotation."""
    return clip.pose[:, SMPL24.index(joint)].numpy()


def test_knees_and_elbows_bend_about_smpls_axes(bvh: SourceMotion) -> None:
    """Known bends come back: about +x at the knees, about -y and +y at the elbows, with little beside."""
    clip = retarget(bvh, REST_M)
    angles = moving()
    for side in ("Left", "Right"):
        knee, elbow = (hinge_angles(clip, f"{side.lower()}_{name}") for name in ("knee", "elbow"))
        assert np.abs(np.degrees(knee[:, 0]) - angles[f"{side}Leg"][:, 1]).max() < 12
        assert np.degrees(np.linalg.norm(knee[:, 1:], axis=1)).max() < 15
        bend = (-1 if side == "Left" else 1) * np.degrees(elbow[:, 1])
        forearm = np.degrees(turn_about(Rotation.from_rotvec(elbow).as_matrix(), np.array([1.0, 0, 0])))
        assert np.abs(bend - -angles[f"{side}ForeArm"][:, 1]).max() < 20
        assert np.abs(forearm).max() < 25  # it shares the hand's turn


def test_an_arm_that_is_turned_about_itself_at_rest_gets_smpls_hinge(tmp_path: Path) -> None:
    """Acclaim's elbow turns about an axis 30 degrees off; SMPL's must come out."""
    bends = np.linspace(5, 120, 24)
    frames = [{"lradius": (float(-b),), "rradius": (float(-b),), "ltibia": (float(b),)} for b in bends]
    source = read_amc(write_acclaim(tmp_path, frames), read_asf(tmp_path / "07.asf"))
    clip = retarget(source, REST_M)
    assert directions_apart_deg(source, clip) < 0.5
    for side, sign in (("left", 1), ("right", -1)):
        bone = REST_M[SMPL24.index(f"{side}_wrist")] - REST_M[SMPL24.index(f"{side}_elbow")]
        forearm = aa_to_matrix(clip.pose[:, SMPL24.index(f"{side}_elbow")]).numpy() @ (bone / np.linalg.norm(bone))
        assert np.abs(forearm[:, 1]).max() < 0.1, "it moves in the plane across SMPL's hinge"
        assert np.abs(np.degrees(np.arctan2(forearm[:, 2], sign * forearm[:, 0])) - bends).max() < 10, side
    knee = np.degrees(hinge_angles(clip, "left_knee"))
    assert np.abs(knee[:, 0] - bends).max() < 8
    assert np.degrees(np.abs(hinge_angles(clip, "right_knee"))).max() < 8, "a leg that stays straight"


def test_a_skeleton_that_stands_along_z_is_turned_upright(tmp_path: Path) -> None:
    path = tmp_path / "z.bvh"
    path.write_text(
        bvh_text({"LeftArm": np.array([[0.0, 40.0, 0.0]] * 3)}, np.tile([0.0, 0.0, 90.0], (3, 1)), 0.1, True)
    )
    source = read_bvh(path)
    clip = retarget(source, REST_M)
    _, joints = posed(clip)
    assert joints[0, SMPL24.index("head"), 1] - joints[0, 0, 1] > 0.4
    assert joints[0, SMPL24.index("left_foot"), 2] > joints[0, SMPL24.index("left_ankle"), 2]
    y_up = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert directions_apart_deg(source, clip, y_up) < 0.5


def test_frames_are_resampled(bvh: SourceMotion) -> None:
    clip = retarget(bvh, REST_M, 15.0)
    assert clip.fps == 15 and len(clip) == 20
    every = retarget(bvh, REST_M)
    torch.testing.assert_close(aa_to_matrix(clip.pose[:10]), aa_to_matrix(every.pose[:20:2]), atol=1e-3, rtol=0)


def test_names_of_other_programs_and_what_is_missing(bvh: SourceMotion) -> None:
    assert [plain(n) for n in ("mixamorig:LeftUpLeg", "Bip01 L Thigh", "thigh.L")] == ["leftupleg", "lthigh", "thighl"]
    joints = map_joints(bvh)
    assert [bvh.joints[i] for i in joints.trunk] == ["Hips", "Spine", "Chest"]
    assert [bvh.joints[i] for i in joints.neck] == ["Chest", "Neck", "Head"]
    assert bvh.joints[joints.collars["left_collar"]] == "LeftShoulder"
    renamed = tuple("Knie" if name == "LeftLeg" else name for name in bvh.joints)
    broken = SourceMotion("x", renamed, bvh.parents, bvh.rest, bvh.rotations, bvh.root, 30.0)
    with pytest.raises(DataError, match=r"could be SMPL's left_knee[\s\S]*Knie"):
        map_joints(broken)


def test_a_limb_without_a_length_is_named(bvh: SourceMotion) -> None:
    rest = bvh.rest.copy()
    rest[bvh.joints.index("LeftForeArm")] = rest[bvh.joints.index("LeftArm")]
    broken = SourceMotion("x", bvh.joints, bvh.parents, rest, bvh.rotations, bvh.root, 30.0)
    with pytest.raises(DataError, match="from left_shoulder to left_elbow has no length"):
        retarget(broken, REST_M)


def test_the_smallest_turn_between_directions() -> None:
    g = np.random.default_rng(0)
    for a, b in zip(g.normal(size=(20, 3)), g.normal(size=(20, 3)), strict=True):
        turn = smallest_turn(a, b)
        np.testing.assert_allclose(turn @ a / np.linalg.norm(a), b / np.linalg.norm(b), atol=1e-9)
        np.testing.assert_allclose(turn @ np.cross(a, b), np.cross(a, b), atol=1e-9)
    back = smallest_turn(np.array([0, 1.0, 0]), np.array([0, -1.0, 0]))
    np.testing.assert_allclose(back @ [0, 1, 0], [0, -1, 0], atol=1e-9)
    assert np.linalg.det(back) == pytest.approx(1)
