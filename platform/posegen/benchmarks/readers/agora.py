"""AGORA's validation split: pickled pandas tables (with SMPL joints and vertices) and pictures.

A row is a picture: `imgPath`, and lists over people `isValid, occlusion, kid, gender, gt_joints_2d` (px at 3840x2160),
`gt_joints_3d` and `gt_verts` (m, camera's axes). An estimator gets a crop of each valid person, so that nobody is
missed but by a failed or unreadable frame; predictions of a detector are scored from their files
(`predictions=FOLDER`: one pickle a person, as for the official evaluation).

Tables with SMPL-X joints (127) and vertices (10 475) are read with `model=smplx`: an estimator is then compared on
SMPL-X's 22 body joints; hands, face and the whole body are scored from prediction files.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.benchmarks.measure.agora_matching import detection_scores, normalised
from posegen.benchmarks.protocols import AGORA_VALIDATION
from posegen.benchmarks.readers.agora_parts import SMPLX_JOINTS
from posegen.benchmarks.readers.crop import box_of_points
from posegen.benchmarks.readers.files import existing, files_below, frame_options, image_root
from posegen.benchmarks.readers.frames import FrameBenchmark, FrameRecord
from posegen.benchmarks.readers.plausibility import check_finite, check_joints, check_unit
from posegen.benchmarks.readers.table_pickle import read_table
from posegen.benchmarks.readers.truth import GivenJoints
from posegen.body.joint_sets import SMPL24, SMPLX_BODY22
from posegen.errors import ConfigError, DataError

FULL_PX, SMALL_PX = (3840, 2160), (1280, 720)
SMALL_SUFFIX = "_1280x720.png"
JOINTS = 24
MODELS = {"smpl": JOINTS, "smplx": SMPLX_JOINTS}  # body model -> joints that its tables hold at least
OWN = ("annotations", "images", "resolution", "kids", "body_vertices", "model", "part_vertices")
_NEEDED = ("imgPath", "isValid", "occlusion", "gt_joints_2d", "gt_joints_3d")


class AgoraPicture:
    """One picture with its people, as in the table."""

    def __init__(self, row: dict[str, Any], where: Path) -> None:
        self.name = str(row["imgPath"])
        place = f"{where} ({self.name})"
        # All projected points: the official matching takes the box around every one of them.
        self.points_2d = [_points(points, 2, place) for points in row["gt_joints_2d"]]
        self.joints = [_points(points, 3, place) for points in row["gt_joints_3d"]]  # (>=24,3) m each
        self.vertices = [np.asarray(v, np.float32).reshape(-1, 3) for v in row.get("gt_verts") or []]
        occlusion = np.asarray(list(row["occlusion"]), np.float64)
        flags = np.asarray(list(row["isValid"])).astype(bool)
        if not len(flags) == len(occlusion) == len(self.joints) == len(self.points_2d):
            raise DataError("the lists of people are of unequal length", where=place)
        # "isValid: occlusion in 0..90"; a person that the mask does not show has a negative one.
        self.valid = flags & (occlusion >= 0) & (occlusion <= 90)
        self.kids = np.asarray(list(row.get("kid") or [False] * len(flags))).astype(bool)


def _points(points: Any, width: int, where: str) -> NDArray:
    array = np.asarray(points, np.float64).squeeze()
    if array.ndim != 2 or array.shape[1] != width or len(array) < JOINTS:
        raise DataError(
            f"a person's joints have shape {array.shape}, expected at least ({JOINTS}, {width})", where=where
        )
    return array


def read_pictures(annotations: Path, model: str = "smpl") -> list[AgoraPicture]:
    """All pictures of one table or of a folder of tables, whose people are of the body model."""
    if model not in MODELS:
        raise ConfigError(f"unknown body model {model!r}", where="benchmark.model", choices=MODELS)
    files = [annotations] if annotations.is_file() else files_below(annotations, "*.pkl", "ground-truth table")
    pictures: list[AgoraPicture] = []
    for file in files:
        table = read_table(file)
        missing = [key for key in _NEEDED if key not in table]
        if missing:
            hint = "take the validation tables with SMPL joints and vertices" if "gt_joints_3d" in missing else ""
            raise DataError(
                f"the table lacks {', '.join(missing)} (it has {', '.join(table)})", where=file, choices=_NEEDED,
                next_command=hint or None,
            )  # fmt: skip
        for row in range(len(table["imgPath"])):
            pictures.append(AgoraPicture({key: column[row] for key, column in table.items()}, file))
            _check_model(pictures[-1], model, file)
    return pictures


def _check_model(picture: AgoraPicture, model: str, where: Path) -> None:
    """SMPL's tables hold 45 joints (24 and landmarks), SMPL-X's 127: read as the other they give wrong numbers."""
    for joints in picture.joints:
        found = "smplx" if len(joints) >= SMPLX_JOINTS else "smpl"
        if found != model:
            raise DataError(
                f"the table holds {len(joints)} joints a person: these are of {found}, not of {model}",
                where=f"{where} ({picture.name})",
                next_command=f"benchmark.model={found}",
            )


class AgoraBenchmark(FrameBenchmark):
    """Crops of valid people; adds precision, recall, F1, NMJE and NMVE."""

    vertex_subset: NDArray | None = None  # the vertices that MVE counts; None: all

    def detection(self, metrics: dict[str, float], counted: dict[str, int]) -> dict[str, float]:
        """Scores of an estimator that is given each person's box: failed and unreadable frames are misses."""
        misses = counted["failed"] + counted["missing"] + counted["damaged"]
        return normalised(metrics, detection_scores(counted["used"], misses, 0))


def agora(
    annotations: str | Path,
    images: str | Path | None = None,
    resolution: str = "auto",
    kids: bool = True,
    body_vertices: str | Path | None = None,
    model: str = "smpl",
    part_vertices: str | Path | None = None,
    **options: Any,
) -> FrameBenchmark:
    """AGORA, validation split.

    Args:
        annotations: the folder of validation tables with SMPL joints and vertices (*_withjv.pkl), or one of them.
        images: the folder of pictures; by default the tables' own.
        resolution: 4k, 720p, or auto: by which pictures are there.
        kids: whether children count, as they do officially.
        body_vertices: agora_evaluation's utils/body_verts_smpl.npy (or ..._smplx.npy): MVE on these vertices only.
        model: smpl or smplx, of the tables.
        part_vertices: only of prediction files, see score_predictions.
    """
    if part_vertices is not None:
        raise ConfigError(
            "hands and face are scored from prediction files", where="benchmark.part_vertices",
            next_command="posegen evaluate benchmark=agora benchmark.model=smplx benchmark.predictions=FOLDER ...",
        )  # fmt: skip
    if resolution not in ("auto", "4k", "720p"):
        raise ConfigError(
            f"unknown resolution {resolution!r}", where="benchmark.resolution", choices=("auto", "4k", "720p")
        )
    where = existing(annotations, "AGORA's tables")
    chosen = frame_options("agora", options, OWN)
    root = image_root(images, where if where.is_dir() else where.parent)
    records: list[FrameRecord] = []
    joints: list[NDArray] = []
    vertices: list[NDArray] = []
    kept = None if body_vertices is None else np.load(existing(body_vertices, "the vertex list"), allow_pickle=False)
    counted = SMPL24 if model == "smpl" else SMPLX_BODY22
    for picture in read_pictures(where, model):
        path, size = _picture_file(root, picture.name, resolution)
        for person in np.flatnonzero(picture.valid & (kids | ~picture.kids)):
            name = f"{picture.name}/{person}"
            points = picture.points_2d[person][:JOINTS] * (size[0] / FULL_PX[0])
            check_finite(points[None], "2D joints", where, [name])
            centre, scale = box_of_points(points)
            group = picture.name.rsplit(".", 1)[0].rstrip("0123456789").rstrip("_")
            records.append(
                FrameRecord(
                    name,
                    str(path),
                    centre,
                    scale,
                    group,
                    len(records),
                    action=_kind(picture, int(person)),
                    size_px=size,
                )
            )
            joints.append(picture.joints[person][: len(counted)])
            if picture.vertices:
                mesh = picture.vertices[person]
                vertices.append(mesh if kept is None else mesh[kept])
    if not records:
        raise DataError("no valid person in the tables", where=where)
    stacked = np.stack(joints)
    check_joints(stacked, len(counted), where, [record.id for record in records])
    check_unit(stacked, "m", where)
    protocol = replace(
        AGORA_VALIDATION,
        joint_set=counted.name,
        boxes="2D joints x 1.2 (ground truth, so that F1 is 1 unless a frame fails)",
        stride=chosen.stride,
        split=AGORA_VALIDATION.split + ("" if kids else ", adults"),
    )
    truth = GivenJoints(stacked, vertices=vertices if len(vertices) == len(records) else None)
    benchmark = AgoraBenchmark("agora", protocol, records, truth, chosen, where)
    benchmark.vertex_subset = kept
    return benchmark


def _kind(picture: AgoraPicture, person: int) -> str:
    """Children and adults are reported apart as well."""
    return "kid" if picture.kids[person] else "adult"


def _picture_file(root: Path, name: str, resolution: str) -> tuple[Path, tuple[int, int]]:
    """The picture's file and size: the 1280x720 copies are named ..._1280x720.png."""
    small = root / (name if name.endswith(SMALL_SUFFIX) else name.replace(".png", SMALL_SUFFIX))
    full = root / name.replace(SMALL_SUFFIX, ".png")
    if resolution == "720p" or (resolution == "auto" and small.is_file()):
        return small, SMALL_PX
    return full, FULL_PX
