"""AGORA's validation split: pickled pandas tables (with SMPL joints and vertices) and pictures.

A row is a picture: `imgPath`, and lists over people `isValid, occlusion, kid, gender, gt_joints_2d` (px at 3840x2160),
`gt_joints_3d` and `gt_verts` (m, camera's axes). An estimator gets a crop of each valid person, so that nobody is
missed but by a failed or unreadable frame; predictions of a detector are scored from their files
(`predictions=FOLDER`: one pickle a person, as for the official evaluation).

Tables with SMPL-X joints (127) and vertices (10 475) are read with `model=smplx`: an estimator is then compared on
SMPL-X's 22 body joints; hands, face and the whole body are scored from prediction files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.benchmarks.measure.agora_matching import detection_scores, normalised
from posegen.benchmarks.protocols import AGORA_VALIDATION
from posegen.benchmarks.readers.agora_parts import SMPLX_JOINTS, vertex_list
from posegen.benchmarks.readers.crop import box_of_points
from posegen.benchmarks.readers.files import existing, files_below, frame_options, image_root
from posegen.benchmarks.readers.frames import FrameBenchmark, FrameRecord
from posegen.benchmarks.readers.plausibility import check_finite, check_joints, check_unit
from posegen.benchmarks.readers.table_pickle import read_table
from posegen.benchmarks.readers.truth import GivenJoints
from posegen.benchmarks.readers.views import FittedViews
from posegen.body.joint_sets import SMPL24, SMPLX_BODY22
from posegen.errors import ConfigError, DataError
from posegen.files.numbers import array_of, text_of

FULL_PX, SMALL_PX = (3840, 2160), (1280, 720)
SMALL_SUFFIX = "_1280x720.png"
JOINTS = 24
MODELS = {"smpl": JOINTS, "smplx": SMPLX_JOINTS}  # body model -> joints that its tables hold at least
OWN = ("annotations", "images", "resolution", "kids", "body_vertices", "model", "part_vertices")
_NEEDED = ("imgPath", "isValid", "occlusion", "gt_joints_2d", "gt_joints_3d")


class AgoraPicture:
    """One picture with its people, as in the table."""

    def __init__(self, row: dict[str, Any], where: Path) -> None:
        self.name = text_of(row["imgPath"], "imgPath", where)
        place = f"{where} ({self.name})"
        # None of a person whom an exporter has blanked: who has no occlusion or flag does not count
        occlusion = array_of(_without_none(_people(row, "occlusion"), -1.0), "occlusion", where=place).reshape(-1)
        flags = array_of(_without_none(_people(row, "isValid"), False), "isValid", bool, place).reshape(-1)
        joints, points = _people(row, "gt_joints_3d"), _people(row, "gt_joints_2d")
        vertices = _people(row, "gt_verts")
        kid = _without_none(_people(row, "kid"), False) or [False] * len(flags)
        kids = array_of(kid, "kid", bool, place).reshape(-1)
        if not len(flags) == len(occlusion) == len(joints) == len(points) == len(kids):
            raise DataError("the lists of people are of unequal length", where=place)
        if len(vertices) not in (0, len(flags)):
            raise DataError("the lists of people are of unequal length", where=place)
        # "isValid: occlusion in 0..90"; a person that the mask does not show has a negative one.
        valid = flags & (occlusion >= 0) & (occlusion <= 90)
        # Who does not count may have no annotation at all: nobody can be matched to them.
        self.people = [
            i for i in range(len(flags)) if valid[i] or (joints[i] is not None and points[i] is not None)
        ]  # numbers in the table; all lists below are of these
        self.valid, self.kids = valid[self.people], kids[self.people]
        # All projected points: the official matching takes the box around every one of them.
        self.points_2d = [_points(points[i], 2, f"{place}, person {i}") for i in self.people]
        self.joints = [_points(joints[i], 3, f"{place}, person {i}") for i in self.people]  # (>=24,3) m each
        has_mesh = len(vertices) == len(flags) and all(vertices[i] is not None for i in np.flatnonzero(valid))
        self.vertices = [_mesh(vertices[i], f"{place}, person {i}") for i in self.people] if has_mesh else []


def _people(row: dict[str, Any], key: str) -> list[Any]:
    """A cell that lists people, however the table was saved: a list, a tuple or an array; [] where there is none."""
    cell = row.get(key)
    listed = isinstance(cell, list | tuple) or (isinstance(cell, np.ndarray) and cell.ndim > 0)
    return list(cell) if listed else []  # type: ignore[arg-type]


def _without_none(values: list[Any], instead: Any) -> list[Any]:
    return [instead if value is None else value for value in values]


def _mesh(vertices: Any, where: str) -> NDArray[np.float32]:
    """(V,3) m; no vertex for a person who does not count and has none."""
    if vertices is None:
        return np.zeros((0, 3), np.float32)
    mesh = array_of(vertices, "gt_verts", np.float32, where)
    if mesh.size % 3:
        raise DataError(f"a person's vertices have shape {mesh.shape}, expected (V, 3)", where=where)
    check_finite(mesh.reshape(1, -1), "gt_verts", where)
    return mesh.reshape(-1, 3)


def _points(points: Any, width: int, where: str) -> NDArray:
    array = array_of(points, "a person's joints", where=where).squeeze()
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

    # `vertex_subset` are the vertices that MVE counts.

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
    seen_px: list[NDArray] = []
    vertices: list[NDArray] = []
    kept = None if body_vertices is None else vertex_list(body_vertices)
    counted = SMPL24 if model == "smpl" else SMPLX_BODY22
    for picture in read_pictures(where, model):
        path, size = _picture_file(root, picture.name, resolution)
        for person in np.flatnonzero(picture.valid & (kids | ~picture.kids)):
            name = f"{picture.name}/{picture.people[person]}"
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
            seen_px.append(points[: len(counted)])
            if picture.vertices:
                mesh = picture.vertices[person]
                vertices.append(_whole_mesh(mesh, vertices, kept, f"{where} ({name})"))
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
    views = FittedViews(np.stack(seen_px), counted, counted)
    benchmark = AgoraBenchmark("agora", protocol, records, truth, chosen, where, views)
    benchmark.vertex_subset = kept
    return benchmark


def _whole_mesh(mesh: NDArray, others: Sequence[NDArray], kept: NDArray | None, where: str) -> NDArray:
    """A person's vertices, or those that are `kept`. Raises DataError: not as many as others have, or as are needed."""
    if kept is not None:
        if len(mesh) <= kept.max(initial=-1):
            raise DataError(
                f"a person has {len(mesh)} vertices, body_vertices asks for number {kept.max()}", where=where
            )
        return mesh[kept]
    if others and len(mesh) != len(others[0]):
        raise DataError(f"a person has {len(mesh)} vertices, others have {len(others[0])}", where=where)
    return mesh


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
