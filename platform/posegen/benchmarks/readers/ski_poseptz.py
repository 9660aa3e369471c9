"""Ski-PosePTZ in its original layout: <split>/labels.h5 and <split>/seq_%03d/cam_%02d/image_%06d.png (256x256).

labels.h5: `seq, cam, frame (N,), 3D (N,51)` = 17x3 metres in the camera's axes, `2D (N,34)` = 17x2 in 0..1 of the
picture. The order is Human3.6M's; other users found the two legs exchanged against the arms, so that the side is told
from the data: a person's left hip is on the side of the left shoulder.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.benchmarks.protocols import SKI_POSEPTZ
from posegen.benchmarks.readers.crop import BOX_UNIT_PX, box_of_points
from posegen.benchmarks.readers.files import existing, frame_options, image_root
from posegen.benchmarks.readers.frames import FrameBenchmark, FrameRecord
from posegen.benchmarks.readers.plausibility import check_finite, check_joints, unit_of
from posegen.benchmarks.readers.truth import GivenJoints
from posegen.body.joint_sets import H36M17
from posegen.errors import ConfigError, DataError

SIZE_PX = 256
OWN = ("annotations", "images", "split", "box", "legs")
LEGS = ("auto", "as_stored", "exchanged")
_NEEDED = ("seq", "cam", "frame", "3D", "2D")


def ski_poseptz(
    annotations: str | Path,
    images: str | Path | None = None,
    split: str = "test",
    box: str = "picture",
    legs: str = "auto",
    **options: Any,
) -> FrameBenchmark:
    """Ski-PosePTZ.

    Args:
        annotations: the data set's folder, one of its splits, or a labels.h5.
        images: the folder of the split's pictures; by default beside labels.h5.
        split: test or train.
        box: picture (the whole 256x256, which the cameras centred on the skier) or joints (2D joints x 1.2).
        legs: auto, as_stored or exchanged.
    """
    where = existing(annotations, "Ski-PosePTZ")
    file = where if where.is_file() else where / "labels.h5"
    if not file.is_file():
        file = where / split / "labels.h5"
    if not file.is_file():
        raise DataError("there is no labels.h5", where=where, next_command="posegen doctor")
    for value, valid, name in ((box, ("picture", "joints"), "box"), (legs, LEGS, "legs")):
        if value not in valid:
            raise ConfigError(f"unknown value {value!r}", where=f"benchmark.{name}", choices=valid)
    chosen = frame_options("ski_poseptz", options, OWN)
    data = _read(file)
    joints, exchanged = _named(data["3D"], legs)
    pictures = image_root(images, file.parent)
    pictures = pictures / split if (pictures / split).is_dir() else pictures
    records = []
    for row, (seq, cam, frame) in enumerate(zip(data["seq"], data["cam"], data["frame"], strict=True)):
        group = f"seq_{seq:03d}/cam_{cam:02d}"
        centre, scale = (SIZE_PX / 2, SIZE_PX / 2), SIZE_PX / BOX_UNIT_PX
        if box == "joints":
            centre, scale = box_of_points(data["2D"][row] * SIZE_PX)
        name = f"{group}/image_{frame:06d}.png"
        records.append(
            FrameRecord(name, str(pictures / name), centre, scale, group, row, int(frame), "", (SIZE_PX, SIZE_PX))
        )
    protocol = replace(
        SKI_POSEPTZ,
        split=file.parent.name if file.parent.name in ("test", "train") else split,
        boxes="whole picture" if box == "picture" else "2D joints x 1.2",
        scale="metric, none fitted" + ("; legs of the truth exchanged to agree with the arms" if exchanged else ""),
        stride=chosen.stride,
    )
    return FrameBenchmark("ski_poseptz", protocol, records, GivenJoints(joints), chosen, file)


def _read(file: Path) -> dict[str, NDArray]:
    import h5py

    try:
        with h5py.File(file, "r") as labels:
            missing = [key for key in _NEEDED if key not in labels]
            if missing:
                raise DataError(f"the file lacks {', '.join(missing)} (it has {', '.join(labels)})", where=file)
            data = {key: np.asarray(labels[key]) for key in _NEEDED}
    except OSError as error:
        raise DataError(f"the file is no HDF5 file or is damaged: {error}", where=file) from error
    for key in ("seq", "cam", "frame"):
        data[key] = data[key].reshape(-1).astype(np.int64)
    number = len(data["seq"])
    for key, width in (("3D", 51), ("2D", 34)):
        if data[key].shape != (number, width):
            raise DataError(f"{key} has shape {data[key].shape}, expected ({number}, {width}): 17 joints", where=file)
    joints = data["3D"].astype(np.float64).reshape(-1, 17, 3)
    points = data["2D"].astype(np.float64).reshape(-1, 17, 2)
    names = [f"seq {s} cam {c} frame {f}" for s, c, f in zip(data["seq"], data["cam"], data["frame"], strict=True)]
    check_joints(joints, 17, file, names)
    check_finite(points, "2D joints", file, names)
    if np.median(np.abs(points)) > 4:
        raise DataError("2D joints must be shares of the picture in 0..1; these look like pixels", where=file)
    unit = unit_of(joints)
    if unit != "m":
        raise DataError(
            f"3D joints must be in m: these {'are in ' + unit if unit else 'fit no person in any unit'}", where=file
        )
    return data | {"3D": joints, "2D": points}


def _named(joints: NDArray, legs: str) -> tuple[NDArray, bool]:
    """Joints (N,17,3) with left and right legs as named, and whether they were exchanged."""
    index = H36M17.index
    exchange = legs == "exchanged"
    if legs == "auto":
        hips = joints[:, index("left_hip")] - joints[:, index("right_hip")]
        shoulders = joints[:, index("left_shoulder")] - joints[:, index("right_shoulder")]
        exchange = float((hips * shoulders).sum(-1).mean()) < 0
    if not exchange:
        return joints, False
    return joints[:, [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]], True
