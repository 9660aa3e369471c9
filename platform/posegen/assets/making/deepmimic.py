"""DeepMimic's humanoid clips (pybullet's wheel, zlib licence) as SMPL poses.

A frame of the text files is: duration, root position (3) and quaternion (w, x, y, z), then chest (quaternion), neck
(quaternion), right hip (quaternion), right knee (angle), right ankle (quaternion), right shoulder (quaternion), right
elbow (angle), and the left side in the same order. DeepMimic's axes are x ahead, y up, z to the right, and its arms
hang down at rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from posegen.body.joint_sets import SMPL24

Array = NDArray[np.float64]
CLIP_FOLDER = Path("pybullet_data/data/motions")
VALUES = 44  # numbers in a frame

# DeepMimic's axes to SMPL's (x to the left, y up, z ahead).
AXES = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
# SMPL's arm along x to DeepMimic's hanging arm.
ARM_DOWN = {side: Rotation.from_euler("z", angle, degrees=True) for side, angle in (("left_", -90), ("right_", 90))}
FIRST_VALUE = {"right_": 16, "left_": 30}


def _ball(quaternions: Array) -> Rotation:
    """A ball joint's quaternions (T,4), w first, in SMPL's axes."""
    matrices = Rotation.from_quat(quaternions[:, [1, 2, 3, 0]]).as_matrix()
    return Rotation.from_matrix(AXES @ matrices @ AXES.T)


def _hinge(angles_rad: Array) -> Rotation:
    """Angles (T,) about DeepMimic's z axis, in SMPL's axes."""
    return Rotation.from_rotvec(angles_rad[:, None] * (AXES @ np.array([0.0, 0.0, 1.0])))


def smpl_motion(frames: Array) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Frames (T,44) to SMPL pose (T,24,3) rad, pelvis translation (T,3) m, y up, and frames a second."""
    pose = np.zeros((len(frames), 24, 3))

    def put(joint: str, rotation: Rotation, share: float = 1.0) -> None:
        pose[:, SMPL24.index(joint)] = share * rotation.as_rotvec()

    put("pelvis", _ball(frames[:, 4:8]))
    for joint in ("spine1", "spine2", "spine3"):
        put(joint, _ball(frames[:, 8:12]), 1 / 3)
    for joint in ("neck", "head"):
        put(joint, _ball(frames[:, 12:16]), 1 / 2)
    for side, k in FIRST_VALUE.items():
        down = ARM_DOWN[side]
        put(side + "hip", _ball(frames[:, k : k + 4]))
        put(side + "knee", _hinge(frames[:, k + 4]))
        put(side + "ankle", _ball(frames[:, k + 5 : k + 9]))
        put(side + "shoulder", _ball(frames[:, k + 9 : k + 13]) * down)
        put(side + "elbow", down.inv() * _hinge(frames[:, k + 13]) * down)
    transl = frames[:, 1:4] @ AXES.T
    return pose.astype(np.float32), transl.astype(np.float32), float(1 / np.median(frames[:, 0]))


def read_clip(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """One humanoid3d_*.txt file. Raises ValueError when it is another kind of file."""
    try:
        frames = np.array(json.loads(path.read_text())["Frames"], np.float64)
    except (UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is not a DeepMimic motion file") from error
    if frames.ndim != 2 or frames.shape[1] != VALUES or not np.isfinite(frames).all():
        raise ValueError(f"{path.name}: expected finite frames of {VALUES} numbers, found shape {frames.shape}")
    return smpl_motion(frames)


def build_clips(raw: Path, out: Path, progress: Callable[[str], None] | None = None) -> None:
    """All clips of the pybullet wheel into one npz: `<clip>/pose`, `<clip>/transl`, `<clip>/fps`."""
    arrays: dict[str, Any] = {}
    paths = sorted((raw / CLIP_FOLDER).glob("humanoid3d_*.txt"))
    if not paths:
        raise ValueError(f"no motion clip in {raw / CLIP_FOLDER}")
    for path in paths:
        name = path.stem.removeprefix("humanoid3d_")
        pose, transl, fps = read_clip(path)
        arrays |= {f"{name}/pose": pose, f"{name}/transl": transl, f"{name}/fps": np.array(fps, np.float32)}
    if progress:
        progress(f"{len(paths)} motion clips converted")
    np.savez(out, **arrays)
