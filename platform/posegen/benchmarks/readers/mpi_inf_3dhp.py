"""MPI-INF-3DHP in its original layout.

Test set: mpi_inf_3dhp_test_set/TS1..TS6/annot_data.mat (MATLAB v7.3, that is HDF5) with `annot2 (F,1,17,2)` px,
`univ_annot3 (F,1,17,3)` mm, `valid_frame (F,1)`, `activity_annotation (F,1)`; pictures imageSequence/img_%06d.jpg,
counted from 1. Training set: S1..S8/Seq1..2/annot.mat (older MATLAB) with `annot2, annot3`, one cell a camera of
(F,56) px and (F,84) mm; pictures imageFrames/video_%d/frame_%06d.jpg, counted from 1.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.benchmarks.protocols import J17, MPI_INF_3DHP_TEST
from posegen.benchmarks.readers.crop import box_of_points
from posegen.benchmarks.readers.files import existing, files_below, frame_options, image_root
from posegen.benchmarks.readers.frames import FrameBenchmark, FrameOptions, FrameRecord
from posegen.benchmarks.readers.plausibility import check_finite, check_joints, check_unit
from posegen.benchmarks.readers.truth import GivenJoints
from posegen.benchmarks.readers.views import FittedViews
from posegen.body.joint_sets import MPI_INF_3DHP17, MPI_INF_3DHP28
from posegen.errors import ConfigError, DataError
from posegen.files.hdf5 import Hdf5File
from posegen.files.listing import files_matching
from posegen.files.matlab import read_mat
from posegen.files.pictures import picture_size

OWN = ("annotations", "images", "split", "inside_only", "truth")
TRUTHS = ("univ_annot3", "annot3")
ACTIVITIES = ("standing/walking", "exercise", "sitting", "crouching/reaching", "on the floor", "sports", "misc")
TRAIN_CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)  # SPIN's vid_list; the calibration of camera 3 is left out there
TRAIN_SIZE_PX = (2048, 2048)
TRAIN_STRIDE = 10  # SPIN keeps every tenth


def mpi_inf_3dhp(
    annotations: str | Path,
    images: str | Path | None = None,
    split: str = "test",
    inside_only: bool = False,
    truth: str = "univ_annot3",
    **options: Any,
) -> FrameBenchmark:
    """MPI-INF-3DHP.

    Args:
        annotations: the folder with TS1..TS6 (or the one that holds mpi_inf_3dhp_test_set); for the training split the
            folder with S1..S8; or SPIN's mpi_inf_3dhp_valid.npz.
        images: the folder the pictures are below, laid out alike; by default `annotations`.
        split: test or train (28 joints, every tenth frame).
        inside_only: leave out frames with joints outside of the picture, as SPIN does (2875 of 2929 remain).
        truth: univ_annot3 (height-normalised, what published numbers use) or annot3.
    """
    where = existing(annotations, "MPI-INF-3DHP")
    if where.suffix == ".npz":
        from posegen.benchmarks.readers.spin_npz import spin_npz

        return spin_npz(where, images, protocol="mpi_inf_3dhp", **options)
    chosen = frame_options("mpi_inf_3dhp", options, OWN)
    if truth not in TRUTHS:
        raise ConfigError(f"unknown truth {truth!r}", where="benchmark.truth", choices=TRUTHS)
    if split == "train":
        return _train(where, images, chosen)
    if split != "test":
        raise ConfigError(f"unknown split {split!r}", where="benchmark.split", choices=("test", "train"))
    root = where / "mpi_inf_3dhp_test_set" if (where / "mpi_inf_3dhp_test_set").is_dir() else where
    pictures = image_root(images, root)
    pictures = pictures / "mpi_inf_3dhp_test_set" if (pictures / "mpi_inf_3dhp_test_set").is_dir() else pictures
    records: list[FrameRecord] = []
    joints: list[NDArray] = []
    seen_px: list[NDArray] = []
    for file in files_below(root, "TS*/annot_data.mat", "test annotation"):
        sequence = file.parent.name
        data = read_test_annotations(file, truth)
        size = _picture_size(pictures / sequence / "imageSequence")
        for frame in np.flatnonzero(data["valid"]):
            points = data["annot2"][frame]
            if inside_only and not ((points >= 0) & (points < np.array(size))).all():
                continue
            centre, scale = box_of_points(points)
            image = pictures / sequence / "imageSequence" / f"img_{frame + 1:06d}.jpg"
            activity = int(data["activity"][frame])
            records.append(
                FrameRecord(
                    f"{sequence}/{frame + 1:06d}", str(image), centre, scale, sequence, len(records), int(frame),
                    ACTIVITIES[activity - 1] if 1 <= activity <= len(ACTIVITIES) else "", size,
                )
            )  # fmt: skip
            joints.append(data["joints_mm"][frame] / 1000)
            seen_px.append(points)
    if not records:
        raise DataError("no valid frame in the test set", where=root)
    views = FittedViews(np.stack(seen_px), MPI_INF_3DHP17, MPI_INF_3DHP17)
    protocol = replace(MPI_INF_3DHP_TEST, stride=chosen.stride)
    if inside_only:
        protocol = replace(protocol, split=protocol.split + ", joints inside the picture")
    if truth != "univ_annot3":
        protocol = replace(protocol, scale="metric, none fitted (annot3; published numbers use univ_annot3)")
    return FrameBenchmark("mpi_inf_3dhp", protocol, records, GivenJoints(np.stack(joints)), chosen, root, views)


def read_test_annotations(file: Path, truth: str = "univ_annot3") -> dict[str, NDArray]:
    """annot_data.mat: annot2 (F,17,2) px, joints_mm (F,17,3), valid (F,) bool, activity (F,) 1..7 (0: none)."""
    with Hdf5File(file, "the file") as mat:
        mat.require(("annot2", truth, "valid_frame"))
        # Frames that are not valid may hold anything; those that are, are looked at below.
        annot2, joints = (mat.array(key, finite=False).astype(np.float64) for key in ("annot2", truth))
        valid = mat.array("valid_frame").reshape(-1) > 0
        has_activity = "activity_annotation" in mat
        activity = mat.array("activity_annotation").reshape(-1) if has_activity else np.zeros(len(valid))
    if len(activity) != len(valid):
        raise DataError(f"activity_annotation has {len(activity)} frames, valid_frame {len(valid)}", where=file)
    for key, array, last in (("annot2", annot2, 2), (truth, joints, 3)):
        if array.shape != (len(valid), 1, 17, last):
            raise DataError(f"{key} has shape {array.shape}, expected ({len(valid)}, 1, 17, {last})", where=file)
    annot2, joints = annot2[:, 0], joints[:, 0]
    names = [f"frame {f + 1}" for f in np.flatnonzero(valid)]
    check_finite(annot2[valid], "annot2", file, names)
    check_joints(joints[valid], 17, file, names)
    if valid.any():
        check_unit(joints[valid], "mm", file)
    return {"annot2": annot2, "joints_mm": joints, "valid": valid, "activity": activity.astype(np.int64)}


def _picture_size(folder: Path) -> tuple[int, int] | None:
    """Width and height of a sequence's pictures, from the first that is readable (TS5 and TS6 differ from the rest)."""
    for path in files_matching(folder, "img_*.jpg")[:20]:
        try:
            return picture_size(path)
        except DataError:
            continue
    return None


def _cameras(file: Path) -> tuple[list[NDArray], list[NDArray]]:
    """annot2 and annot3 of a training sequence: one array (F,56) px and (F,84) mm a camera."""
    mat = read_mat(file, ("annot2", "annot3"), "training annotation of MPI-INF-3DHP")
    found = []
    for name in ("annot2", "annot3"):
        cells = mat[name]
        if cells.dtype != object:
            raise DataError(f"{name} is no cell array with a cell for each camera", where=file)
        parts = [np.atleast_1d(part) for part in cells.reshape(-1)]
        if any(part.dtype == object for part in parts):
            raise DataError(f"{name}: the cells of the cameras are nested", where=file)
        found.append([part.astype(np.float64) for part in parts])
    if len(found[0]) != len(found[1]):
        raise DataError(f"annot2 has {len(found[0])} cameras, annot3 {len(found[1])}", where=file)
    return found[0], found[1]


def _train(where: Path, images: str | Path | None, chosen: FrameOptions) -> FrameBenchmark:
    """The training set's 28 joints: for checks on known data and for fine-tuning labels."""
    pictures = image_root(images, where)
    records: list[FrameRecord] = []
    joints: list[NDArray] = []
    seen_px: list[NDArray] = []
    for file in files_below(where, "S*/Seq*/annot.mat", "training annotation"):
        sequence = f"{file.parent.parent.name}/{file.parent.name}"
        annot2, annot3 = _cameras(file)
        for camera in TRAIN_CAMERAS:
            if camera >= len(annot2):
                break
            points, bodies = annot2[camera], annot3[camera]
            if points.shape != (len(bodies), 56) or bodies.shape[1:] != (84,):
                raise DataError(
                    f"camera {camera}: shapes {points.shape}, {bodies.shape}; expected (F,56), (F,84)", where=file
                )
            points, bodies = points.reshape(-1, 28, 2), bodies.reshape(-1, 28, 3)
            check_joints(bodies, 28, file, [f"frame {f + 1}" for f in range(len(bodies))])
            check_unit(bodies, "mm", file)
            used = [MPI_INF_3DHP28.index(name) for name in J17]
            for frame in range(0, len(points), TRAIN_STRIDE):
                seen = points[frame, used]
                if not ((seen >= 0) & (seen < np.array(TRAIN_SIZE_PX))).all():
                    continue
                centre, scale = box_of_points(seen)
                track = f"{sequence}/video_{camera}"
                image = pictures / sequence / "imageFrames" / f"video_{camera}" / f"frame_{frame + 1:06d}.jpg"
                records.append(
                    FrameRecord(
                        f"{track}/{frame + 1:06d}", str(image), centre, scale, sequence, len(records), frame,
                        size_px=TRAIN_SIZE_PX, track=track,
                    )
                )  # fmt: skip
                joints.append(bodies[frame] / 1000)
                seen_px.append(points[frame])
    if not records:
        raise DataError("no frame with all joints inside the picture", where=where)
    views = FittedViews(np.stack(seen_px), MPI_INF_3DHP28, MPI_INF_3DHP28)
    protocol = replace(
        MPI_INF_3DHP_TEST, joint_set="mpi_inf_3dhp28", split="train", stride=TRAIN_STRIDE * chosen.stride,
        scale="metric, none fitted", source="SPIN datasets/preprocess/mpi_inf_3dhp.py",
    )  # fmt: skip
    return FrameBenchmark("mpi_inf_3dhp", protocol, records, GivenJoints(np.stack(joints)), chosen, where, views)
