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
from PIL import Image, UnidentifiedImageError

from posegen.benchmarks.protocols import J17, MPI_INF_3DHP_TEST
from posegen.benchmarks.readers.crop import box_of_points
from posegen.benchmarks.readers.files import existing, files_below, frame_options, image_root
from posegen.benchmarks.readers.frames import FrameBenchmark, FrameOptions, FrameRecord
from posegen.benchmarks.readers.plausibility import check_finite, check_joints, check_unit
from posegen.benchmarks.readers.truth import GivenJoints
from posegen.body.joint_sets import MPI_INF_3DHP28
from posegen.errors import ConfigError, DataError
from posegen.matlab import read_mat

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
    if not records:
        raise DataError("no valid frame in the test set", where=root)
    protocol = replace(MPI_INF_3DHP_TEST, stride=chosen.stride)
    if inside_only:
        protocol = replace(protocol, split=protocol.split + ", joints inside the picture")
    if truth != "univ_annot3":
        protocol = replace(protocol, scale="metric, none fitted (annot3; published numbers use univ_annot3)")
    return FrameBenchmark("mpi_inf_3dhp", protocol, records, GivenJoints(np.stack(joints)), chosen, root)


def read_test_annotations(file: Path, truth: str = "univ_annot3") -> dict[str, NDArray]:
    """annot_data.mat: annot2 (F,17,2) px, joints_mm (F,17,3), valid (F,) bool, activity (F,) 1..7 (0: none)."""
    import h5py

    try:
        with h5py.File(file, "r") as mat:
            missing = [key for key in ("annot2", truth, "valid_frame") if key not in mat]
            if missing:
                raise DataError(f"the file lacks {', '.join(missing)} (it has {', '.join(mat)})", where=file)
            annot2, joints = np.asarray(mat["annot2"], np.float64), np.asarray(mat[truth], np.float64)
            valid = np.asarray(mat["valid_frame"]).reshape(-1) > 0
            has_activity = "activity_annotation" in mat
            activity = np.asarray(mat["activity_annotation"]).reshape(-1) if has_activity else np.zeros(len(valid))
    except OSError as error:
        raise DataError(f"the file is no MATLAB v7.3 (HDF5) file or is damaged: {error}", where=file) from error
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
    for path in sorted(folder.glob("img_*.jpg"))[:20]:
        try:
            with Image.open(path) as image:
                return image.size
        except (UnidentifiedImageError, OSError):
            continue
    return None


def _train(where: Path, images: str | Path | None, chosen: FrameOptions) -> FrameBenchmark:
    """The training set's 28 joints: for checks on known data and for fine-tuning labels."""
    pictures = image_root(images, where)
    records: list[FrameRecord] = []
    joints: list[NDArray] = []
    for file in files_below(where, "S*/Seq*/annot.mat", "training annotation"):
        sequence = f"{file.parent.parent.name}/{file.parent.name}"
        unlike = "no training annotation of MPI-INF-3DHP"
        mat = read_mat(file, unlike)
        if missing := [name for name in ("annot2", "annot3") if name not in mat]:
            raise DataError(f"{unlike}: it lacks {', '.join(missing)}", where=file)
        annot2, annot3 = mat["annot2"], mat["annot3"]
        for camera in TRAIN_CAMERAS:
            if camera >= len(annot2):
                break
            points, bodies = np.asarray(annot2[camera][0], np.float64), np.asarray(annot3[camera][0], np.float64)
            if points.shape != (len(bodies), 56) or bodies.shape[1] != 84:
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
                group = f"{sequence}/video_{camera}"
                image = pictures / sequence / "imageFrames" / f"video_{camera}" / f"frame_{frame + 1:06d}.jpg"
                records.append(
                    FrameRecord(
                        f"{group}/{frame + 1:06d}", str(image), centre, scale, group, len(records), frame,
                        size_px=TRAIN_SIZE_PX,
                    )
                )  # fmt: skip
                joints.append(bodies[frame] / 1000)
    if not records:
        raise DataError("no frame with all joints inside the picture", where=where)
    protocol = replace(
        MPI_INF_3DHP_TEST, joint_set="mpi_inf_3dhp28", split="train", stride=TRAIN_STRIDE * chosen.stride,
        scale="metric, none fitted", source="SPIN datasets/preprocess/mpi_inf_3dhp.py",
    )  # fmt: skip
    return FrameBenchmark("mpi_inf_3dhp", protocol, records, GivenJoints(np.stack(joints)), chosen, where)
