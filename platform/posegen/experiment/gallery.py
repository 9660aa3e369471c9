"""Chooses the test images that the report shows, with what the estimator said of them before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from posegen.benchmarks.measure.result import BenchmarkResult
from posegen.benchmarks.protocol import Benchmark, EvalBatch
from posegen.body.joint_sets import SMPL24, joint_set
from posegen.scene import Camera, Estimator
from posegen.tracking.report.gallery import Gallery


def hardest(results: Mapping[str, BenchmarkResult], each: int) -> dict[str, list[int]]:
    """Of each benchmark the rows with the largest error, at most one a group, so that pictures differ."""
    chosen: dict[str, list[int]] = {}
    for name, result in results.items():
        errors = result.per_image["mpjpe_mm"]
        order = np.argsort(-np.where(np.isfinite(errors), errors, -1), kind="stable")
        seen: set[str] = set()
        rows: list[int] = []
        for row in order.tolist():
            if result.groups[row] not in seen and len(rows) < each:
                seen.add(result.groups[row])
                rows.append(row)
        chosen[name] = rows
    return chosen


def _smpl_joints(estimator: Estimator, batch: EvalBatch) -> Tensor:
    """The prediction (B,24,3) m in the camera frame, put at the true root; NaN for joints the estimator lacks."""
    prediction = estimator(batch.images)
    names = joint_set(prediction.joint_set)
    out = torch.full_like(batch.joints, float("nan"))
    in_smpl, in_predicted = SMPL24.common(names)
    hips = [names.index("left_hip"), names.index("right_hip")]
    true_hips = [SMPL24.index("left_hip"), SMPL24.index("right_hip")]
    shift = batch.joints[:, true_hips].mean(1, keepdim=True) - prediction.joints[:, hips].mean(1, keepdim=True)
    out[:, in_smpl] = (prediction.joints + shift)[:, in_predicted]
    return out


@torch.no_grad()
def make_gallery(
    before: Estimator,
    after: Estimator,
    benchmarks: Sequence[Benchmark],
    results_before: Mapping[str, BenchmarkResult],
    results_after: Mapping[str, BenchmarkResult],
    file: Path,
    each: int = 9,
) -> Gallery:
    """Saves the gallery of the `each` hardest images of every benchmark."""
    chosen = hardest(results_before, each)
    columns: dict[str, list] = {name: [] for name in Gallery.__dataclass_fields__}
    for benchmark in benchmarks:
        for row in chosen[benchmark.name]:
            batch = benchmark.batch(slice(row, row + 1))  # type: ignore[attr-defined]
            camera = benchmark.camera(slice(row, row + 1))  # type: ignore[attr-defined]
            picture = (batch.images[0].permute(1, 2, 0) * 255).round().to(torch.uint8)
            columns["images"].append(picture.numpy())
            columns["joints2d_truth"].append(_project(camera, batch.joints))
            columns["joints2d_before"].append(_project(camera, _smpl_joints(before, batch)))
            columns["joints2d_after"].append(_project(camera, _smpl_joints(after, batch)))
            columns["error_before_mm"].append(results_before[benchmark.name].per_image["mpjpe_mm"][row])
            columns["error_after_mm"].append(results_after[benchmark.name].per_image["mpjpe_mm"][row])
            columns["benchmark"].append(benchmark.name)
            columns["ids"].append(batch.ids[0])
    gallery = Gallery(**{name: np.asarray(values) for name, values in columns.items()})
    gallery.save(file)
    return gallery


def _project(camera: Camera, joints_cam_m: Tensor) -> np.ndarray:
    """(1,24,3) m in the camera frame -> (24,2) px."""
    depth = joints_cam_m[..., 2:].clamp_min(0.05)
    return (joints_cam_m[..., :2] / depth * camera.focal[:, None, None] + camera.centre[:, None])[0].numpy()
