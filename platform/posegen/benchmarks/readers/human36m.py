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
from posegen.benchmarks.readers.crop import BOX_UNIT_PX, box_of_points
from posegen.benchmarks.readers.files import existing, files_below, frame_options, image_root
from posegen.benchmarks.readers.frames import FrameBenchmark, FrameRecord
from posegen.benchmarks.readers.plausibility import check_joints, check_unit
from posegen.benchmarks.readers.spin_npz import FRONTAL_CAMERA, spin_npz
from posegen.benchmarks.readers.truth import GivenJoints
from posegen.errors import ConfigError, DataError
from posegen.files.cdf import read_variable
from posegen.files.hdf5 import Hdf5File

SUBJECTS = ("S9", "S11")
# The joint set h36m17 among the original 32 (SPIN datasets/preprocess/h36m.py h36m_idx, with the right leg first).
OF_32 = (11, 1, 2, 3, 6, 7, 8, 12, 24, 14, 15, 17, 18, 19, 25, 26, 27)
MASK_FACTOR = 0.9  # SPIN's box around the mask
BOXES = ("masks", "joints")
_TAIL_FEWEST, _TAIL_SHARE = 10, 0.05  # poses after the last picture of a video that are no fault of the pictures
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
    beyond: list[str] = []
    place = 0  # in the rows of `joints`
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
            of_action = []
            for row, (frame, (centre, scale)) in enumerate(zip(frames.tolist(), boxes, strict=True)):
                image = root / "images" / f"{group}_{frame + 1:06d}.jpg"
                kind = action.split("_")[0]
                name, clip = f"{group}/{frame + 1:06d}", f"{subject}_{action}"
                of_action.append(
                    FrameRecord(name, str(image), centre, scale, clip, place + row, frame, kind, track=group)
                )
            place += len(poses)
            joints.append(poses)
            seen = _in_video(of_action)
            records += of_action[:seen]
            beyond += [record.id for record in of_action[seen:]]
    if not records:
        raise DataError(f"no sequence of camera {FRONTAL_CAMERA}", where=where)
    rules = replace(
        rules, joint_set="h36m17", stride=rules.stride * chosen.stride,
        boxes=f"masks x {MASK_FACTOR}" if box == "masks" else "2D joints x 1.2",
    )  # fmt: skip
    return FrameBenchmark(
        protocol, rules, records, GivenJoints(np.concatenate(joints)), chosen, where, left_out={"beyond_video": beyond}
    )


def _in_video(records: list[FrameRecord]) -> int:
    """How many of an action's records have been filmed: some videos end a few frames before their poses do.

    All of them where more than a few are missing at the end, or everything is: then it is the pictures that lack.
    """
    missing = 0
    while missing < len(records) and not Path(records[-1 - missing].image).is_file():
        missing += 1
    few = missing <= max(_TAIL_FEWEST, _TAIL_SHARE * len(records)) and missing < len(records)
    return len(records) - missing if few else len(records)


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
    return read_mask_boxes(subject / "MySegmentsMat" / "ground_truth_bb" / f"{file.stem}.mat", frames)


def read_mask_boxes(path: Path, frames: NDArray) -> list[tuple[tuple[float, float], float]]:
    """SPIN's boxes around the masks of frames: centre (u, v) px, side / 200 px."""
    boxes = []
    without = "posegen evaluate ... benchmark.box=joints"
    with Hdf5File(path, "the file of masks", next_command=without) as mat:
        references = mat.references("Masks").reshape(-1)
        if len(references) <= frames[-1]:
            raise DataError(
                f"there are {len(references)} masks for {frames[-1] + 1} frames", where=path, next_command=without
            )
        for frame in frames:
            mask = mat.followed(references[frame], f"the mask of frame {frame + 1}").T == 1
            if mask.ndim != 2 or not mask.any():
                raise DataError(f"the mask of frame {frame + 1} is empty", where=path, next_command=without)
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            low = np.array([columns[0], rows[0]])
            high = np.array([columns[-1] + 1, rows[-1] + 1])
            centre = (low + high) / 2
            boxes.append(((float(centre[0]), float(centre[1])), float(MASK_FACTOR * (high - low).max() / BOX_UNIT_PX)))
    return boxes
