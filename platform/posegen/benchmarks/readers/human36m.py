"""Human3.6M by SPIN's protocols 1 and 2: from the original CDF files, or from SPIN's npz.

Original layout, for S9 and S11: <subject>/MyPoseFeatures/D3_Positions_mono/<Action>.<camera>.cdf with `Pose (1,T,96)`,
32 joints in mm in the camera's axes; boxes from MySegmentsMat/ground_truth_bb/<Action>.<camera>.mat (MATLAB v7.3,
`Masks`, one reference a frame) or from the 2D joints of MyPoseFeatures/D2_Positions. The pictures are every fifth frame
of the videos under SPIN's names: images/<subject>_<Action>.<camera>_%06d.jpg, counted from 1, blanks as underscores.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.benchmarks.protocols import H36M_P1, H36M_P2
from posegen.benchmarks.readers.cdf import read_variable
from posegen.benchmarks.readers.crop import BOX_UNIT_PX, box_of_points
from posegen.benchmarks.readers.files import existing, files_below, frame_options, image_root
from posegen.benchmarks.readers.frames import FrameBenchmark, FrameRecord
from posegen.benchmarks.readers.plausibility import check_joints, check_unit
from posegen.benchmarks.readers.spin_npz import FRONTAL_CAMERA, spin_npz
from posegen.benchmarks.readers.truth import GivenJoints
from posegen.errors import ConfigError, DataError

SUBJECTS = ("S9", "S11")
# The joint set h36m17 among the original 32 (SPIN datasets/preprocess/h36m.py h36m_idx, with the right leg first).
OF_32 = (11, 1, 2, 3, 6, 7, 8, 12, 24, 14, 15, 17, 18, 19, 25, 26, 27)
MASK_FACTOR = 0.9  # SPIN's box around the mask
BOXES = ("masks", "joints")
OWN = ("annotations", "images", "box")
_PROTOCOLS = {"h36m_p1": H36M_P1, "h36m_p2": H36M_P2}


def human36m(
    protocol: str, annotations: str | Path, images: str | Path | None = None, box: str = "masks", **options: Any
) -> FrameBenchmark:
    """Human3.6M.

    Args:
        protocol: h36m_p1 (all cameras) or h36m_p2 (the frontal one).
        annotations: the folder that holds S9 and S11, or h36m_valid_protocol{1,2}.npz.
        images: the folder that holds images/; by default the annotations' own.
        box: of the original layout, masks (SPIN's; reading them takes minutes) or joints (2D joints x 1.2).
    """
    chosen = frame_options(protocol, options, OWN)
    where = existing(annotations, "Human3.6M")
    if where.is_file():
        return spin_npz(where, images, protocol=protocol, **options)
    if box not in BOXES:
        raise ConfigError(f"unknown value {box!r}", where="benchmark.box", choices=BOXES)
    rules = _PROTOCOLS[protocol]
    root = image_root(images, where, "images")
    records: list[FrameRecord] = []
    joints: list[NDArray] = []
    for subject in SUBJECTS:
        if not (where / subject).is_dir():
            raise DataError(f"the folder of subject {subject} is missing", where=where, choices=SUBJECTS)
        for file in files_below(where / subject / "MyPoseFeatures" / "D3_Positions_mono", "*.cdf", "pose file"):
            action, camera = file.stem.rsplit(".", 1)
            action = action.replace(" ", "_")
            if action == "_ALL" or (protocol == "h36m_p2" and camera != FRONTAL_CAMERA):
                continue
            frames, poses = _poses(file, rules.stride)
            boxes = _boxes(where / subject, file, frames, box)
            group = f"{subject}_{action}.{camera}"
            for frame, (centre, scale) in zip(frames.tolist(), boxes, strict=True):
                image = root / "images" / f"{group}_{frame + 1:06d}.jpg"
                kind = action.split("_")[0]
                records.append(
                    FrameRecord(f"{group}/{frame + 1:06d}", str(image), centre, scale, group, len(records), frame, kind)
                )
            joints.append(poses)
    if not records:
        raise DataError(f"no sequence of camera {FRONTAL_CAMERA}", where=where)
    rules = replace(
        rules, joint_set="h36m17", stride=rules.stride * chosen.stride,
        boxes=f"masks x {MASK_FACTOR}" if box == "masks" else "2D joints x 1.2",
    )  # fmt: skip
    return FrameBenchmark(protocol, rules, records, GivenJoints(np.concatenate(joints)), chosen, where)


def _poses(file: Path, stride: int) -> tuple[NDArray, NDArray]:
    """Used frames (F,) and their joints (F,17,3) m."""
    values = read_variable(file, "Pose")
    if values.ndim != 3 or values.shape[0] != 1 or values.shape[2] != 96:
        raise DataError(f"Pose has shape {values.shape}, expected (1, T, 96)", where=file)
    frames = np.arange(0, values.shape[1], stride)
    joints = values[0, frames].astype(np.float64).reshape(-1, 32, 3)[:, OF_32]
    check_joints(joints, 17, file, [f"frame {frame + 1}" for frame in frames])
    check_unit(joints, "mm", file)
    return frames, joints / 1000


def _boxes(subject: Path, file: Path, frames: NDArray, box: str) -> list[tuple[tuple[float, float], float]]:
    if box == "joints":
        points = read_variable(subject / "MyPoseFeatures" / "D2_Positions" / file.name, "Pose")
        if points.ndim != 3 or points.shape[2] != 64 or points.shape[1] <= frames[-1]:
            raise DataError(f"Pose has shape {points.shape}, expected (1, T, 64)", where=file)
        return [box_of_points(points[0, frame].reshape(32, 2)[list(OF_32)].astype(np.float64)) for frame in frames]
    import h5py

    path = subject / "MySegmentsMat" / "ground_truth_bb" / f"{file.stem}.mat"
    boxes = []
    try:
        with h5py.File(path, "r") as mat:
            references = mat["Masks"]
            for frame in frames:
                mask = np.asarray(mat[references[frame, 0]]).T == 1
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                if not len(rows):
                    raise DataError(f"the mask of frame {frame + 1} is empty", where=path)
                low = np.array([columns[0], rows[0]])
                high = np.array([columns[-1] + 1, rows[-1] + 1])
                centre = (low + high) / 2
                boxes.append(
                    ((float(centre[0]), float(centre[1])), float(MASK_FACTOR * (high - low).max() / BOX_UNIT_PX))
                )
    except (OSError, KeyError, IndexError, ValueError, TypeError) as error:
        raise DataError(
            f"the masks cannot be read: {error}", where=path, next_command="posegen evaluate ... benchmark.box=joints"
        ) from error
    return boxes
