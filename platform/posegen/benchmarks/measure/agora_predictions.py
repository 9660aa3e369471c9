"""Scores prediction files for AGORA as the official evaluation does: matching, MPJPE, MVE, F1, NMJE, NMVE.

A folder holds one pickle a person, <picture>_personId_<n>.pkl, with `joints (>=24,2)` px at 3840x2160,
`allSmplJoints3d (>=24,3)` m (SMPL-X: 127) and `verts (V,3)` m in the camera's axes. (Files with SMPL parameters instead
are scored by the estimator's own code: pose the body and write joints.)
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from posegen.benchmarks.measure import metrics
from posegen.benchmarks.measure.agora_matching import detection_scores, match, normalised
from posegen.benchmarks.measure.result import BenchmarkResult
from posegen.benchmarks.protocols import AGORA_VALIDATION
from posegen.benchmarks.readers.agora import JOINTS, MODELS, AgoraPicture, read_pictures
from posegen.benchmarks.readers.agora_parts import part_errors_mm, vertex_lists, whole_body
from posegen.benchmarks.readers.files import existing, files_below
from posegen.body.joint_sets import SMPL24, SMPLX_BODY22
from posegen.body.safe_pickle import load_pickle
from posegen.errors import DataError

_HIPS = (SMPL24.index("left_hip"), SMPL24.index("right_hip"))


def score_predictions(
    annotations: str | Path,
    predictions: str | Path,
    body_vertices: str | Path | None = None,
    name: str = "predictions",
    model: str = "smpl",
    part_vertices: str | Path | None = None,
) -> BenchmarkResult:
    """Matches and scores a folder of prediction pickles.

    Args:
        annotations: AGORA's validation tables; predictions: the folder; name: of the method.
        body_vertices: agora_evaluation's utils/body_verts_smpl.npy: SMPL's MVE on these vertices only.
        model: smpl, or smplx: hands, face and the whole body are then scored as well.
        part_vertices: of SMPL-X: a folder with body_verts_smplx.npy, MANO_SMPLX_vertex_ids.pkl and
            SMPL-X__FLAME_vertex_ids.npy; a part whose list is not there has no vertex error.
    """
    folder = existing(predictions, "the folder of predictions")
    by_picture: dict[str, list[Path]] = defaultdict(list)
    for file in files_below(folder, "*_personId_*.pkl", "prediction"):
        by_picture[file.name.rsplit("_personId_", 1)[0]].append(file)
    kept = None if body_vertices is None else np.load(existing(body_vertices, "the vertex list"), allow_pickle=False)
    rows: list[dict[str, Any]] = []
    parts: list[dict[str, float]] = []
    lists = vertex_lists(part_vertices) if model == "smplx" else {}
    kept = lists.get("body", kept)
    misses = beside = false_positives = 0
    for picture in read_pictures(existing(annotations, "AGORA's tables"), model):
        files = sorted(by_picture.get(picture.name.rsplit(".", 1)[0], []))
        people = [_read(file, MODELS[model]) for file in files]
        # Predictions of a picture are only counted where it has any (agora_evaluation/compute_average_error.py).
        matching = match([p["joints"] for p in people], picture.points_2d, picture.valid.tolist())
        misses += len(matching.misses)
        beside += len(matching.misses) if people else 0
        false_positives += len(matching.false_positives)
        rows.extend(_errors(people[i], picture, j, kept, 24 if model == "smpl" else 22) for i, j in matching.pairs)
        if model == "smplx":
            parts.extend(_part_errors(people[i], picture, j, lists) for i, j in matching.pairs)
    if not rows:
        raise DataError("no prediction matches a person of the tables", where=folder)
    result = _result(rows, misses, false_positives, name)
    result.metrics.update(whole_body(parts, beside, result.metrics["f1"]) if parts else {})
    return result


def _part_errors(
    person: dict[str, NDArray], picture: AgoraPicture, j: int, lists: dict[str, NDArray]
) -> dict[str, float]:
    meshes = None
    if "verts" in person and picture.vertices:
        meshes = (person["verts"], picture.vertices[j].astype(np.float64))
        if meshes[0].shape != meshes[1].shape:
            raise DataError(f"verts has shape {meshes[0].shape}, the truth {meshes[1].shape}", where=picture.name)
    return part_errors_mm(person["allSmplJoints3d"], picture.joints[j], meshes, lists)


def _read(file: Path, joints: int) -> dict[str, NDArray]:
    data = load_pickle(file)
    if not isinstance(data, dict) or "joints" not in data or "allSmplJoints3d" not in data:
        raise DataError(
            "a prediction needs joints and allSmplJoints3d", where=file, choices=("joints", "allSmplJoints3d", "verts")
        )
    person = {
        key: np.asarray(data[key], np.float64).squeeze()
        for key in ("joints", "allSmplJoints3d", "verts")
        if key in data
    }
    for key, count, width in (("joints", JOINTS, 2), ("allSmplJoints3d", joints, 3)):
        if person[key].ndim != 2 or len(person[key]) < count or person[key].shape[1] < width:
            raise DataError(f"{key} has shape {person[key].shape}, expected (>={count}, {width})", where=file)
        if not np.isfinite(person[key]).all():
            raise DataError(f"{key} holds NaN or infinite values", where=file)
    return person


def _errors(
    person: dict[str, NDArray], picture: AgoraPicture, j: int, kept: NDArray | None, count: int
) -> dict[str, Any]:
    predicted = torch.from_numpy(person["allSmplJoints3d"][None, :count].copy())
    true = torch.from_numpy(picture.joints[j][None, :count].copy())
    p_root, t_root = predicted[:, list(_HIPS)].mean(1, keepdim=True), true[:, list(_HIPS)].mean(1, keepdim=True)
    errors = metrics.distances_mm(predicted - p_root, true - t_root)
    row: dict[str, Any] = {
        "id": f"{picture.name}/{j}",
        "group": picture.name,
        "action": "kid" if picture.kids[j] else "adult",
        "joints": errors[0].numpy(),
        "mpjpe_mm": errors.mean().item(),
        "pa_mpjpe_mm": metrics.pa_mpjpe_mm(predicted, true).item(),
        "pck_150": metrics.pck_of_distances(errors).item(),
        "auc": metrics.auc_of_distances(errors).item(),
        "pve_mm": float("nan"),
    }
    if "verts" in person and picture.vertices:
        mesh, truth = (
            torch.from_numpy(person["verts"][None].copy()),
            torch.from_numpy(picture.vertices[j][None].astype(np.float64)),
        )
        if mesh.shape == truth.shape:
            if kept is not None:
                mesh, truth = mesh[:, kept], truth[:, kept]
            row["pve_mm"] = metrics.pve_mm(mesh - p_root, truth - t_root).item()
    return row


def _result(rows: list[dict[str, Any]], misses: int, false_positives: int, name: str) -> BenchmarkResult:
    names = ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "pck_150", "auc")
    per_image = {key: np.array([row[key] for row in rows]) for key in names}
    means = {key: float(np.nanmean(value)) for key, value in per_image.items() if np.isfinite(value).any()}
    per_image = {key: value for key, value in per_image.items() if key in means}
    scores = detection_scores(len(rows), misses, false_positives)
    counted = SMPL24 if len(rows[0]["joints"]) == len(SMPL24) else SMPLX_BODY22
    protocol = replace(AGORA_VALIDATION, joint_set=counted.name)
    unknown = np.full(len(rows), np.nan)
    return BenchmarkResult(
        benchmark="agora",
        protocol=f"{protocol}; predictions matched greedily by 2D joints, boxes of the predictor",
        estimator=name,
        ids=[row["id"] for row in rows],
        groups=[row["group"] for row in rows],
        actions=[row["action"] for row in rows],
        per_image=per_image,
        azimuth=unknown,
        elevation=unknown,
        joint_names=list(counted.joints),
        joint_errors_mm=np.stack([row["joints"] for row in rows]),
        metrics=normalised(means, scores) | means,
        counted={"used": len(rows), "missing": misses, "damaged": 0, "failed": 0, "false_positives": false_positives},
    )
