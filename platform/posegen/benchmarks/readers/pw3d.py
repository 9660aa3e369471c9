"""3DPW in its original layout: sequenceFiles/<split>/*.pkl and imageFiles/<sequence>/image_%05d.jpg.

A pickle (Python 2, latin1) holds for each person p `poses[p] (T,72), betas[p] (>=10,), poses2d[p] (T,3,18),
campose_valid[p] (T,), genders[p]`, and `cam_poses (T,4,4)` world -> camera, `sequence`. As in SPIN's preprocessing the
global orientation is turned into the camera's axes, and frames with an invalid camera pose are left out; so are frames
without 2D joints, which have no box.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from posegen.benchmarks.protocols import PW3D
from posegen.benchmarks.readers.crop import box_of_points
from posegen.benchmarks.readers.files import existing, files_below, frame_options, image_root
from posegen.benchmarks.readers.frames import FrameBenchmark, FrameRecord
from posegen.benchmarks.readers.plausibility import check_finite
from posegen.benchmarks.readers.truth import PosedBodies, gender_word, gendered_bodies, one_gender
from posegen.benchmarks.readers.views import FittedViews
from posegen.body.joint_sets import COCO18, H36M17
from posegen.body.rotations import aa_to_matrix, matrix_to_aa
from posegen.errors import ConfigError, DataError
from posegen.files.numbers import array_of, sequence_of, text_of
from posegen.files.pickles import load_pickle

NEEDED = ("poses", "betas", "poses2d", "campose_valid", "genders", "cam_poses", "sequence")
SPLITS = ("test", "validation", "train")
OWN = ("annotations", "images", "body_path", "gender", "split")


def pw3d(
    annotations: str | Path,
    images: str | Path | None = None,
    body_path: str | Path | None = None,
    gender: str = "gendered",
    split: str = "test",
    **options: Any,
) -> FrameBenchmark:
    """3DPW.

    Args:
        annotations: the folder sequenceFiles (or one above or below it, or one .pkl), or SPIN's 3dpw_test.npz.
        images: the folder that holds imageFiles; by default the one that holds sequenceFiles.
        body_path: folder of SMPL's files with J_regressor_h36m.npy.
        gender: "gendered" as SPIN, "neutral" as HybrIK (their numbers are not comparable).
        split: test, validation or train.
    """
    if split not in SPLITS:
        raise ConfigError(f"unknown split {split!r}", where="benchmark.split", choices=SPLITS)
    where = existing(annotations, "3DPW's annotations")
    if where.suffix == ".npz":
        from posegen.benchmarks.readers.spin_npz import spin_npz

        return spin_npz(where, images, body_path, protocol="3dpw", gender=gender, **options)
    chosen = frame_options("3dpw", options, OWN)
    files, root = _files(where, split)
    pictures = image_root(images, root, "imageFiles")
    records: list[FrameRecord] = []
    poses: list[NDArray] = []
    betas: list[NDArray] = []
    points_px: list[NDArray] = []
    genders: list[str] = []
    for file in files:
        for person in _people(file):
            for row in range(len(person.frames)):
                frame = int(person.frames[row])
                centre, scale = person.boxes[row]
                name = f"imageFiles/{person.sequence}/image_{frame:05d}.jpg"
                track = f"{person.sequence}/{person.index}"
                record = FrameRecord(
                    f"{track}/{frame:05d}", str(pictures / name), centre, scale, person.sequence, len(records), frame,
                    track=track,
                )  # fmt: skip
                records.append(record)
            poses.append(person.poses)
            points_px.append(person.points_px)
            betas.append(np.broadcast_to(person.betas, (len(person.frames), 10)))
            genders.extend([person.gender] * len(person.frames))
    if not records:
        raise DataError("3DPW's files hold no frame with a valid camera and 2D joints", where=where)
    bodies, named = gendered_bodies(body_path, genders, gender, regressed=True)
    truth = PosedBodies(bodies, np.concatenate(poses), np.concatenate(betas), named, "h36m17", where)
    rule = PW3D.gender if gender == "gendered" else "neutral SMPL (not comparable to gendered truth)"
    if gender == "gendered" and len(files) > 1:
        rule += one_gender(named)
    protocol = replace(PW3D, gender=rule, split=split, stride=chosen.stride)
    views = FittedViews(np.concatenate(points_px), COCO18, H36M17)
    return FrameBenchmark("3dpw", protocol, records, truth, chosen, where, views)


def _files(where: Path, split: str) -> tuple[list[Path], Path]:
    """The sequence files of a split, and the folder that should hold imageFiles."""
    if where.is_file():
        parents = {parent.name: parent for parent in where.parents}
        folder = parents.get("sequenceFiles")
        return [where], folder.parent if folder is not None else where.parent
    if (where / "sequenceFiles").is_dir():
        where = where / "sequenceFiles"
    folder = where / split if (where / split).is_dir() else where
    root = where.parent if where.name == "sequenceFiles" else where.parent.parent if folder is where else where.parent
    return files_below(folder, "*.pkl", "sequence file"), root


class _Person:
    """The usable frames of one person of a sequence."""

    def __init__(self, data: dict[str, Any], index: int, file: Path) -> None:
        where = f"{file} (person {index})"
        self.index, self.sequence = index, text_of(data["sequence"], "sequence", where)

        def mine(key: str) -> Any:
            people = sequence_of(data[key], key, where)
            if index >= len(people):
                raise DataError(f"{key} has {len(people)} people, poses more", where=where)
            return people[index]

        self.gender = gender_word(mine("genders"), where)
        pose = array_of(mine("poses"), "poses", where=where)
        if pose.ndim != 2 or pose.shape[1] != 72:
            raise DataError(f"poses have shape {pose.shape}, expected (T, 72)", where=where)
        points = array_of(mine("poses2d"), "poses2d", where=where)
        cameras = array_of(data["cam_poses"], "cam_poses", where=where)
        valid = array_of(mine("campose_valid"), "campose_valid", bool, where).reshape(-1)
        for what, array in (("poses2d", points), ("cam_poses", cameras), ("campose_valid", valid)):
            frames = len(array) if array.ndim else 0
            if frames != len(pose):
                raise DataError(f"{what} has {frames} frames, poses {len(pose)}", where=where)
        if points.shape[1:] != (3, 18):
            raise DataError(f"poses2d has shape {points.shape}, expected (T, 3, 18)", where=where)
        if cameras.shape[1:] != (4, 4):
            raise DataError(f"cam_poses has shape {cameras.shape}, expected (T, 4, 4)", where=where)
        seen = points[:, 2] > 0
        self.frames = np.flatnonzero(valid & (seen.sum(1) >= 2))
        self.boxes = [box_of_points(points[f, :2, seen[f]]) for f in self.frames]
        keep = np.array([scale > 0 for _, scale in self.boxes], dtype=bool)
        self.frames, self.boxes = self.frames[keep], [box for box, kept in zip(self.boxes, keep, strict=True) if kept]
        # (F,18,2) px, NaN where a joint was not detected
        self.points_px = np.where(seen, points[:, :2].transpose(1, 0, 2), np.nan).transpose(1, 2, 0)[self.frames]
        betas = array_of(mine("betas"), "betas", where=where).reshape(-1)[:10]
        if len(betas) != 10:
            raise DataError(f"betas have {len(betas)} numbers, expected at least 10", where=where)
        check_finite(betas[None], "betas", where)
        pose = pose[self.frames].reshape(-1, 24, 3)
        check_finite(pose, "poses", where, [f"frame {f}" for f in self.frames])
        check_finite(cameras[self.frames], "cam_poses", where, [f"frame {f}" for f in self.frames])
        turned = cameras[self.frames, :3, :3] @ aa_to_matrix(torch.from_numpy(pose[:, 0])).numpy()
        pose[:, 0] = matrix_to_aa(torch.from_numpy(turned)).numpy()
        self.poses, self.betas = pose, betas


def _people(file: Path) -> list[_Person]:
    data = load_pickle(file)
    if not isinstance(data, dict):
        raise DataError(f"the file holds a {type(data).__name__}, not a 3DPW sequence", where=file)
    missing = [key for key in NEEDED if key not in data]
    if missing:
        raise DataError(f"this is no 3DPW sequence: {', '.join(missing)} missing", where=file, choices=NEEDED)
    return [_Person(data, index, file) for index in range(len(sequence_of(data["poses"], "poses", file)))]
