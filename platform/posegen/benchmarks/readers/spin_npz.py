"""SPIN-style npz files (dataset_extras): 3DPW, MPI-INF-3DHP and Human3.6M as SPIN's preprocessing leaves them.

Keys: `imgname, center (N,2) px, scale (N,) side / 200 px`, and `S (N,24,4)` joints in metres with a confidence, or
`pose (N,72), shape (N,10), gender (N,)` with the global orient in the camera's axes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.benchmarks.protocol import Protocol
from posegen.benchmarks.protocols import H36M_P1, H36M_P2, MPI_INF_3DHP_TEST, PW3D
from posegen.benchmarks.readers.files import as_text, existing, frame_options, image_root, read_npz
from posegen.benchmarks.readers.frames import FrameBenchmark, FrameRecord
from posegen.benchmarks.readers.plausibility import check_finite, check_joints, check_unit
from posegen.benchmarks.readers.truth import GivenJoints, PosedBodies, Truth, gendered_bodies, one_gender
from posegen.benchmarks.readers.views import FittedViews
from posegen.body.joint_sets import SPIN24, joint_set
from posegen.errors import ConfigError, DataError

FRONTAL_CAMERA = "60457274"
_H36M_NAME = re.compile(r"(?P<subject>S\d+)_(?P<action>.+)\.(?P<camera>\d{8})_(?P<frame>\d+)\.\w+$")
OWN = ("annotations", "images", "body_path", "protocol", "gender")
_MOST_DIGITS = 15  # of a frame's number in a name
LARGEST_SCALE = 20.0  # a box of 4000 px; HMR 2.0's scales are sides in pixels

PROTOCOLS: dict[str, Protocol] = {
    "3dpw": PW3D,
    "mpi_inf_3dhp": replace(
        MPI_INF_3DHP_TEST, joint_set="spin24", split="test, as preprocessed by SPIN (joints inside the picture)"
    ),
    "h36m_p1": H36M_P1,
    "h36m_p2": H36M_P2,
}


def spin_npz(
    annotations: str | Path,
    images: str | Path | None = None,
    body_path: str | Path | None = None,
    protocol: str = "auto",
    gender: str = "gendered",
    **options: Any,
) -> FrameBenchmark:
    """A SPIN-style npz file.

    Args:
        annotations: e.g. 3dpw_test.npz, mpi_inf_3dhp_valid.npz (its other name is ..._test.npz),
            h36m_valid_protocol1.npz.
        images: the folder that `imgname` starts in; by default the file's own.
        body_path: folder of SMPL's files, needed where the truth is SMPL parameters (3DPW).
        protocol: 3dpw, mpi_inf_3dhp, h36m_p1, h36m_p2, or auto: by the file's name.
        gender: of 3DPW's truth, "gendered" or "neutral".
    """
    where = existing(annotations, "the npz file")
    name = _protocol_of(where) if protocol == "auto" else protocol
    if name not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {name!r}", where="benchmark.protocol", choices=["auto", *PROTOCOLS])
    rules = PROTOCOLS[name]
    chosen = frame_options("spin_npz", options, OWN)
    posed = rules.joint_set == "h36m17"
    left_out: dict[str, list[str]] = {}
    arrays = read_npz(
        where,
        ("imgname", "center", "scale", *(("pose", "shape") if posed else ("S",))),
        ("gender", "has_smpl", "part"),
        unbounded=("S", "center", "scale", "pose", "shape", "part"),
    )
    names = as_text(arrays["imgname"], "imgname", where)
    records = records_of(names, arrays["center"], arrays["scale"], image_root(images, where.parent), where)
    if name == "h36m_p2":
        records = [record for record in records if f".{FRONTAL_CAMERA}_" in record.image]
        if not records:
            raise DataError(f"no picture of camera {FRONTAL_CAMERA} in the file", where=where)
    truth: Truth
    views = _views(arrays, rules.joint_set)
    if posed:
        records, left_out = _with_smpl(records, arrays)
        truth = _posed(arrays, names, body_path, gender, where)
        if gender != "gendered":
            rules = replace(rules, gender="neutral SMPL (not comparable to gendered truth)")
        elif name == "3dpw":
            rules = replace(rules, gender=rules.gender + one_gender(truth.genders))
    else:
        truth = given_joints(arrays["S"], names, where)
    own_stride = chosen.stride
    rules = replace(rules, stride=rules.stride * own_stride, boxes=f"{rules.boxes} (as in the file)")
    return FrameBenchmark(name, rules, records, truth, chosen, where, views, left_out)


def _with_smpl(
    records: list[FrameRecord], arrays: dict[str, NDArray]
) -> tuple[list[FrameRecord], dict[str, list[str]]]:
    """The rows whose SMPL parameters are real, and the names of the others: their zeros are no truth."""
    if "has_smpl" not in arrays:
        return records, {}
    has = np.asarray(arrays["has_smpl"]).reshape(-1) > 0
    without = [record.id for record in records if not has[record.index]]
    return [record for record in records if has[record.index]], {"without_truth": without}


def _views(arrays: dict[str, NDArray], truth: str) -> FittedViews | None:
    """Cameras from `part (N,24,3)`, the annotated 2D joints with a confidence, where the file has them."""
    part = arrays.get("part")
    if part is None or part.ndim != 3 or part.shape[1:] != (24, 3):
        return None
    return FittedViews(np.where(part[..., 2:] > 0, part[..., :2], np.nan), SPIN24, joint_set(truth))


def _protocol_of(path: Path) -> str:
    """By the names that SPIN's scripts and config give."""
    stem = path.stem.lower()
    for word, name in (("3dpw", "3dpw"), ("3dhp", "mpi_inf_3dhp"), ("protocol2", "h36m_p2"), ("protocol1", "h36m_p1")):
        if word in stem:
            return name
    raise ConfigError(
        f"the file's name does not tell its protocol: {path.name}",
        where="benchmark.protocol",
        choices=PROTOCOLS,
        next_command="posegen evaluate ... benchmark.protocol=3dpw",
    )


def records_of(names: list[str], centres: NDArray, scales: NDArray, root: Path, where: Path) -> list[FrameRecord]:
    """Records of npz rows; boxes are checked, groups and frames are read off the pictures' names."""
    if centres.size != 2 * len(names) or scales.size != len(names):
        raise DataError(f"center and scale have shapes {centres.shape} and {scales.shape} for {len(names)} rows",
                        where=where)  # fmt: skip
    centres, scales = np.asarray(centres, np.float64).reshape(len(names), 2), np.asarray(scales, np.float64).reshape(-1)
    check_finite(np.concatenate([centres, scales[:, None]], 1), "boxes", where, names)
    if np.median(scales) > LARGEST_SCALE:
        raise DataError(
            f"scale must be the box's side / 200 px: its median is {np.median(scales):.4g}, which looks like pixels",
            where=where,
            next_command="posegen evaluate ... benchmark=hmr2_npz, if the file is of HMR 2.0; else divide scale by 200",
        )
    if (scales <= 0).any():
        raise DataError(f"box of no size: {names[int((scales <= 0).argmax())]}", where=where)
    records = []
    for row, (name, centre, scale) in enumerate(zip(names, centres, scales, strict=True)):
        group, action, frame = _labels(name)
        box = (float(centre[0]), float(centre[1]))
        records.append(FrameRecord(f"{name}#{row}", str(root / name), box, float(scale), group, row, frame, action))
    return _people_apart(records)


def _people_apart(records: list[FrameRecord]) -> list[FrameRecord]:
    """Several people in the pictures of one folder: a frame number that returns starts the next person's track."""
    person: dict[str, int] = {}
    last: dict[str, int] = {}
    result = []
    for record in records:
        number = person.setdefault(record.group, 0)
        if record.frame <= last.get(record.group, -1):
            number = person[record.group] = number + 1
        last[record.group] = record.frame
        result.append(replace(record, track=f"{record.group}/{number}"))
    return result


def _labels(name: str) -> tuple[str, str, int]:
    """Group (sequence), action and frame number from a picture's name."""
    path = PurePosixPath(name)
    if match := _H36M_NAME.search(path.name):
        action = match["action"]
        group = f"{match['subject']}_{action}.{match['camera']}"
        return group, action.split("_")[0].rstrip("0123456789"), int(match["frame"][-_MOST_DIGITS:])
    digits = re.findall(r"\d+", path.stem)
    return str(path.parent), "", int(digits[-1][-_MOST_DIGITS:]) if digits else 0


def given_joints(values: NDArray, names: list[str], where: Path) -> GivenJoints:
    """`S (N,24,4)`: joints in metres and confidence; those without confidence do not count."""
    if values.ndim != 3 or values.shape[1:] != (24, 4):
        raise DataError(f"S has shape {values.shape}, expected (N, 24, 4)", where=where)
    check_finite(values[..., 3], "confidences of S", where, names)
    valid = values[..., 3] > 0
    joints = np.where(valid[..., None], values[..., :3], 0.0)
    check_joints(joints, 24, where, names)
    check_unit(np.where(valid[..., None], values[..., :3], np.nan)[valid.sum(1) >= 8], "m", where)
    return GivenJoints(joints, valid)


def _posed(
    arrays: dict[str, NDArray], names: list[str], body_path: str | Path | None, gender: str, where: Path
) -> PosedBodies:
    pose = np.asarray(arrays["pose"], np.float64)
    if pose.size != 72 * len(names):
        raise DataError(f"pose has shape {pose.shape}, expected ({len(names)}, 72)", where=where)
    pose = pose.reshape(len(names), 24, 3)
    betas = np.asarray(arrays["shape"], np.float64)
    if betas.shape != (len(names), 10):
        raise DataError(f"shape has shape {betas.shape}, expected ({len(names)}, 10)", where=where)
    check_finite(pose, "pose", where, names)
    check_finite(betas, "shape", where, names)
    if "gender" not in arrays and gender == "gendered":
        raise DataError("gendered truth needs the key gender", where=where, next_command="benchmark.gender=neutral")
    genders = as_text(arrays["gender"], "gender", where) if "gender" in arrays else ["n"] * len(names)
    bodies, named = gendered_bodies(body_path, genders, gender, regressed=True)
    return PosedBodies(bodies, pose, betas, named, "h36m17", where)
