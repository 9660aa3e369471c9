"""BVH and ASF/AMC: known answers on files written here, and an error with the line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from written_motion import JOINTS, amc_text, asf_text, bvh_text, write_acclaim

from posegen.body.motion.asf_amc import read_amc, read_asf
from posegen.body.motion.bvh import read_bvh
from posegen.body.motion.source import MAX_BYTES, MAX_FRAMES, SourceMotion
from posegen.errors import DataError


def at(motion: SourceMotion, joint: str) -> np.ndarray:
    return motion.positions()[:, motion.joints.index(joint)]


def test_bvh_rotates_about_turned_axes_in_the_channels_order(tmp_path: Path) -> None:
    """Z then X then Y: 90 degrees about z brings the y offset to -x; what follows turns about axes that moved along."""
    angles = {"LeftArm": np.array([[90.0, 90.0, 0.0], [0.0, 0.0, 0.0]])}
    path = tmp_path / "a.bvh"
    path.write_text(bvh_text(angles, np.array([[10.0, 95.0, -3.0], [0.0, 90.0, 0.0]]), 1 / 60))
    motion = read_bvh(path)
    assert motion.fps == pytest.approx(60, rel=1e-4) and len(motion) == 2
    assert set(name for name, _, _ in JOINTS) < set(motion.joints)
    np.testing.assert_allclose(at(motion, "Hips")[0], [10, 95, -3])
    np.testing.assert_allclose(at(motion, "Chest")[0], [10, 95 + 31, -3])
    upper = at(motion, "LeftForeArm") - at(motion, "LeftArm")
    # R = Rz(90) Rx(90): (2, -29, 0) -> Rx -> (2, 0, -29) -> Rz -> (0, 2, -29)
    np.testing.assert_allclose(upper[0], [0, 2, -29], atol=1e-4)
    np.testing.assert_allclose(upper[1], [2, -29, 0], atol=1e-4)
    lower = at(motion, "LeftHand") - at(motion, "LeftForeArm")
    np.testing.assert_allclose(lower[0], [1, 0, -26], atol=1e-4)  # (0, -26, 1) -> (0, -1, -26) -> (1, 0, -26)


def test_an_acclaim_bone_turns_about_its_own_axes(tmp_path: Path) -> None:
    """A knee's rx turns about the axis that its bone's 20 degrees about z have turned; the root moves and turns all."""
    path = write_acclaim(tmp_path, [{}, {"ltibia": (90,)}, {"root": (1, 2, 3, 0, 90, 0)}])
    motion = read_amc(path, read_asf(tmp_path / "07.asf"))
    assert motion.fps == 120 and len(motion) == 3
    thigh = at(motion, "ltibia") - at(motion, "lfemur")
    shin = at(motion, "lfoot") - at(motion, "ltibia")
    down = np.array([0.34202, -0.939693, 0])
    np.testing.assert_allclose(thigh[0], 7.6 * down, atol=1e-4)
    np.testing.assert_allclose(shin[0], 7.3 * down, atol=1e-4)
    np.testing.assert_allclose(shin[1], [0, 0, -7.3], atol=1e-4)  # backwards
    np.testing.assert_allclose(at(motion, "root")[2], [1, 2, 3])
    np.testing.assert_allclose(thigh[2], [0, 7.6 * down[1], -7.6 * down[0]], atol=1e-4)  # +x goes to -z
    end = at(motion, "lhand_end") - at(motion, "lhand")
    np.testing.assert_allclose(end[0], [1, 0, 0], atol=1e-6)


def test_acclaim_angles_apply_about_fixed_axes_in_the_order_of_the_dofs(tmp_path: Path) -> None:
    """The spine's axis is the world's: rx 90 then rz 90 brings up to ahead, where rz leaves it."""
    motion = read_amc(write_acclaim(tmp_path, [{"spine": (90, 0, 90)}]), read_asf(tmp_path / "07.asf"))
    np.testing.assert_allclose((at(motion, "head") - at(motion, "spine"))[0], [0, 0, 6], atol=1e-6)


def good_bvh() -> str:
    return bvh_text({}, np.zeros((2, 3)), 0.05)


BAD_BVH = [
    (lambda s: s.replace("HIERARCHY", "HIER"), r"no BVH file"),
    (lambda s: s.replace("CHANNELS 3 Zrotation", "CHANNELS 3 Wrotation", 1), r"unknown channel 'wrotation'[\s\S]*line"),
    (lambda s: s.replace("CHANNELS 3", "CHANNELS 7", 1), r"no count up to 6[\s\S]*line"),
    (lambda s: s.replace("OFFSET 0.0 9.0 0.0", "OFFSET 0.0 nan 0.0"), r"not finite[\s\S]*line 8"),
    (lambda s: s.replace("OFFSET 0.0 9.0 0.0", "OFFSET 0.0 9.0"), r"three numbers[\s\S]*line 8"),
    (lambda s: s.replace("OFFSET 0.0 9.0 0.0", "OFFSET __import__ 9 0"), r"expected numbers[\s\S]*line 8"),
    (lambda s: s.replace("JOINT Spine\n", "JOINT Hips\n"), r"two joints are called 'Hips'"),
    (lambda s: s.replace("Frames: 2", "Frames: 99999999"), rf"no count up to {MAX_FRAMES}"),
    (lambda s: s.replace("Frames: 2", "Frames: 3"), r"3 frames are announced, 2 are there"),
    (lambda s: s.replace("Frames: 2", "Frames: 1"), r"more frames than the 1"),
    (lambda s: s.replace("Frames: 2", "Frames: 0"), r"more frames|no frame"),
    (lambda s: s.replace("Frame Time: 0.05", "Frame Time: 0"), r"frame time of 0 s"),
    (lambda s: s.rstrip()[:-9] + "\n", r"channels, this frame"),
    (lambda s: s[: s.index("MOTION")], r"ends before its motion"),
    (lambda s: s.replace("}\nMOTION", "MOTION"), r"last brace"),
    (
        lambda s: "HIERARCHY\n" + "ROOT a\n{\n" + "".join(f"JOINT b{i}\n{{\n" for i in range(600)),
        r"more than 512 joints",
    ),
]


@pytest.mark.parametrize(("change", "message"), BAD_BVH)
def test_bad_bvh_is_named(tmp_path: Path, change, message: str) -> None:
    path = tmp_path / "x.bvh"
    path.write_text(change(good_bvh()))
    with pytest.raises(DataError, match=message):
        read_bvh(path)


BAD_ASF = [
    (lambda s: s.replace(":units", ":unit"), r"unknown section ':unit'[\s\S]*line 4"),
    (lambda s: s.replace("angle deg", "angle turns"), r"unknown unit of angles"),
    (lambda s: s.replace("dof rx ry rz", "dof rx qq rz", 1), r"degree of freedom 'qq'"),
    (lambda s: s.replace("name rfoot", "name lfoot"), r"two bones are called 'lfoot'"),
    (lambda s: s.replace("length 7.6", "length 1e999", 1), r"not finite"),
    (lambda s: s.replace("length 7.6", "length 0", 1), r"not zero"),
    (lambda s: s.replace("axis 0 0 20 XYZ", "axis 0 0 20 XYX", 1), r"an axis is three angles"),
    (lambda s: s.replace("    lfemur ltibia\n", "    lfemur ltibia rfemur\n"), r"'rfemur' hangs on two others"),
    (lambda s: s.replace("    spine lhumerus rhumerus head\n", ""), r"does not hang on the root"),
    (lambda s: s.replace("    ltibia lfoot\n", "    ltibia tail\n"), r"no bone 'tail'[\s\S]*line"),
]


@pytest.mark.parametrize(("change", "message"), BAD_ASF)
def test_a_bad_skeleton_is_named(tmp_path: Path, change, message: str) -> None:
    path = tmp_path / "x.asf"
    path.write_text(change(asf_text()))
    with pytest.raises(DataError, match=message):
        read_asf(path)


BAD_AMC = [
    (lambda s: s.replace("ltibia 0", "ltibia 0 0", 1), r"has 1 degrees of freedom, not 2[\s\S]*line 6"),
    (lambda s: s.replace("ltibia 0", "tail 0", 1), r"moves no bone 'tail'[\s\S]*line 6"),
    (lambda s: s.replace("ltibia 0\n", "", 1), r"the frame before has no ltibia[\s\S]*line"),
    (lambda s: s.replace("ltibia 0\n", "ltibia 0\nltibia 0\n", 1), r"occurs twice"),
    (lambda s: s.replace("ltibia 0", "ltibia inf", 1), r"not finite"),
    (lambda s: s.rstrip()[: s.rstrip().rindex("rradius")], r"the last frame has no rradius"),
    (lambda s: ":DEGREES\n", r"no frame"),
    (lambda s: s.replace("1\nroot", "root", 1), r"before the first frame"),
]


@pytest.mark.parametrize(("change", "message"), BAD_AMC)
def test_bad_motion_is_named(tmp_path: Path, change, message: str) -> None:
    write_acclaim(tmp_path, [{}])
    path = tmp_path / "x.amc"
    path.write_text(change(amc_text([{}, {}])))
    with pytest.raises(DataError, match=message):
        read_amc(path, read_asf(tmp_path / "07.asf"))


def test_binary_huge_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b.bvh").write_bytes(b"HIERARCHY\n\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="no text"):
        read_bvh(tmp_path / "b.bvh")
    with (tmp_path / "h.bvh").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: takes no disk
    with pytest.raises(DataError, match="larger than"):
        read_bvh(tmp_path / "h.bvh")
    with pytest.raises(DataError, match="cannot be read"):
        read_bvh(tmp_path / "none.bvh")
