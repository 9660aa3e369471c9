"""EMDB in its original layout (eth-ait/emdb dataset.md): P*/<sequence>/P*_<sequence>_data.pkl and images/%05d.jpg.

The pickle: `gender, name, emdb1, emdb2, n_frames, good_frames_mask (T,), camera.{intrinsics (3,3), extrinsics (T,4,4)
world -> camera, width, height}, smpl.{poses_root (T,3), poses_body (T,69), trans (T,3), betas (10,)},
bboxes.bboxes (T,4)` as x_min, y_min, x_max, y_max. As in evaluation_metrics.py the 24 SMPL joints are compared, both
sides centred on the middle of the hips.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from posegen.benchmarks.protocols import EMDB
from posegen.benchmarks.readers.crop import box_of_points
from posegen.benchmarks.readers.files import existing, files_below, frame_options, image_root
from posegen.benchmarks.readers.frames import FrameBenchmark, FrameRecord
from posegen.benchmarks.readers.plausibility import check_finite
from posegen.benchmarks.readers.truth import PosedBodies, gender_word, gendered_bodies
from posegen.body.rotations import aa_to_matrix, matrix_to_aa
from posegen.errors import ConfigError, DataError
from posegen.files.numbers import array_of, mapping_of
from posegen.files.pickles import load_pickle
from posegen.files.values import whole_number

SUBSETS = {"1": "emdb1", "2": "emdb2", "all": None}
OWN = ("annotations", "images", "body_path", "gender", "subset")
_PARTS = {
    "camera": ("extrinsics",), "smpl": ("poses_root", "poses_body", "betas"), "bboxes": ("bboxes",),
}  # fmt: skip
_NEEDED = ("gender", "n_frames", "good_frames_mask", "camera", "smpl", "bboxes")


def emdb(
    annotations: str | Path,
    images: str | Path | None = None,
    body_path: str | Path | None = None,
    gender: str = "gendered",
    subset: str | int = "1",
    **options: Any,
) -> FrameBenchmark:
    """EMDB.

    Args:
        annotations: the folder with P0..P9 (or one of them).
        images: the folder the pictures are below, laid out alike; by default `annotations`.
        body_path: folder of SMPL's files.
        gender: "gendered" as the authors, or "neutral".
        subset: 1 (pose from RGB, what is usually reported), 2 or all.
    """
    if str(subset) not in SUBSETS:
        raise ConfigError(f"unknown subset {subset!r}", where="benchmark.subset", choices=SUBSETS)
    where = existing(annotations, "EMDB")
    chosen = frame_options("emdb", options, OWN)
    pattern = "*/*_data.pkl" if where.name.startswith("P") and where.name[1:].isdigit() else "P*/*/*_data.pkl"
    root = where.parent if pattern.startswith("*/*_") else where
    pictures = image_root(images, root)
    records: list[FrameRecord] = []
    poses: list[NDArray] = []
    betas: list[NDArray] = []
    genders: list[str] = []
    flag = SUBSETS[str(subset)]
    for file in files_below(where, pattern, "sequence"):
        data = _read(file)
        if flag is not None and not array_of(data.get(flag, False), flag, bool, file).any():
            continue
        sequence = file.parent.relative_to(root)
        frames, pose, boxes, size = _frames(data, file)
        for frame, box in zip(frames.tolist(), boxes, strict=True):
            centre, scale = box_of_points(box.reshape(2, 2))
            image = pictures / sequence / "images" / f"{frame:05d}.jpg"
            records.append(
                FrameRecord(
                    f"{sequence}/{frame:05d}", str(image), centre, scale, str(sequence), len(records), frame,
                    size_px=size,
                )
            )  # fmt: skip
        poses.append(pose)
        betas.append(np.broadcast_to(_betas(data, file), (len(frames), 10)))
        genders.extend([gender_word(data["gender"], file)] * len(frames))
    if not records:
        raise DataError(f"no usable frame of EMDB {subset} below the folder", where=where)
    bodies, named = gendered_bodies(body_path, genders, gender, regressed=False)
    truth = PosedBodies(bodies, np.concatenate(poses), np.concatenate(betas), named, "smpl24", where)
    protocol = replace(EMDB, split=f"EMDB {subset}, good frames", stride=chosen.stride)
    if gender != "gendered":
        protocol = replace(protocol, gender="neutral SMPL (not comparable to gendered truth)")
    return FrameBenchmark("emdb", protocol, records, truth, chosen, where)


def _read(file: Path) -> dict[str, Any]:
    data = load_pickle(file)
    if not isinstance(data, dict):
        raise DataError(f"the file holds a {type(data).__name__}, not an EMDB sequence", where=file)
    missing = [key for key in _NEEDED if key not in data]
    if missing:
        raise DataError(f"this is no EMDB sequence: {', '.join(missing)} missing", where=file, choices=_NEEDED)
    for part, keys in _PARTS.items():
        mapping_of(data[part], part, keys, file)
    return data


def _betas(data: dict[str, Any], file: Path) -> NDArray:
    betas = array_of(data["smpl"]["betas"], "betas", where=file).reshape(-1)[:10]
    if len(betas) != 10:
        raise DataError(f"betas have {len(betas)} numbers, expected at least 10", where=file)
    check_finite(betas[None], "betas", file)
    return betas


def _frames(data: dict[str, Any], file: Path) -> tuple[NDArray, NDArray, NDArray, tuple[int, int] | None]:
    """Good frames (F,), their poses (F,24,3) in the camera's axes, boxes (F,4) px, and the pictures' size."""
    number = whole_number(data["n_frames"], "n_frames", file)
    root = array_of(data["smpl"]["poses_root"], "poses_root", where=file)
    rest = array_of(data["smpl"]["poses_body"], "poses_body", where=file)
    extrinsics = array_of(data["camera"]["extrinsics"], "extrinsics", where=file)
    boxes = array_of(data["bboxes"]["bboxes"], "bboxes", where=file)
    expected: dict[str, tuple[NDArray, tuple[int, ...]]] = {
        "poses_root": (root, (3,)),
        "poses_body": (rest, (69,)),
        "bboxes": (boxes, (4,)),
        "extrinsics": (extrinsics, (4, 4)),
    }
    for name, (array, shape) in expected.items():
        if array.shape != (number, *shape):
            raise DataError(f"{name} has shape {array.shape}, expected {(number, *shape)}", where=file)
    good = array_of(data["good_frames_mask"], "good_frames_mask", bool, file).reshape(-1)
    if len(good) != number:
        raise DataError(f"good_frames_mask has {len(good)} frames, expected {number}", where=file)
    good &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    frames = np.flatnonzero(good)
    pose = np.concatenate([root, rest], 1)[frames].reshape(-1, 24, 3)
    names = [f"frame {f}" for f in frames]
    check_finite(pose, "SMPL poses", file, names)
    check_finite(extrinsics[frames], "extrinsics", file, names)
    turned = extrinsics[frames, :3, :3] @ aa_to_matrix(torch.from_numpy(pose[:, 0])).numpy()
    pose[:, 0] = matrix_to_aa(torch.from_numpy(turned)).numpy()
    camera = data["camera"]
    if not {"width", "height"} <= set(camera):
        return frames, pose, boxes[frames], None
    size = (whole_number(camera["width"], "width", file), whole_number(camera["height"], "height", file))
    return frames, pose, boxes[frames], size
