"""Chooses the test images that the report shows, with what the estimator said of them before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from posegen.benchmarks.measure.result import BenchmarkResult
from posegen.benchmarks.protocol import Benchmark, EvalBatch
from posegen.body.joint_sets import SMPL24, joint_set
from posegen.experiment.evaluation import Judge
from posegen.scene import Estimator
from posegen.tracking.report.gallery import Gallery

LARGEST_PX = 224  # pictures of several sizes are brought to the largest, at most this


def hardest(results: Mapping[str, BenchmarkResult], each: int) -> dict[str, list[str]]:
    """Of each benchmark the ids with the largest error, at most one a group, so that pictures differ.

    Where there are fewer groups than pictures wanted, the largest errors of the same groups follow.
    """
    chosen: dict[str, list[str]] = {}
    for name, result in results.items():
        errors = result.per_image["mpjpe_mm"]
        order = [int(row) for row in np.argsort(-np.nan_to_num(errors, nan=-1.0), kind="stable")]
        order = [row for row in order if np.isfinite(errors[row])]
        first: dict[str, int] = {}
        for row in order:
            first.setdefault(result.groups[row], row)
        rows = list(first.values())
        rows += [row for row in order if row not in set(rows)]
        chosen[name] = [result.ids[row] for row in rows[:each]]
    return chosen


def _as_smpl(joints: Tensor, names: str) -> Tensor:
    """(B,J,3) of a named joint set as SMPL's (B,24,3); NaN for joints that it lacks."""
    out = torch.full((len(joints), len(SMPL24), 3), float("nan"))
    in_smpl, in_own = SMPL24.common(joint_set(names))
    out[:, in_smpl] = joints[:, in_own].float()
    return out


def _hips(joints: Tensor, names: str) -> Tensor:
    """(B,1,3): the middle of the hips."""
    own = joint_set(names)
    return joints[:, [own.index("left_hip"), own.index("right_hip")]].mean(1, keepdim=True)


def _predicted(estimator: Estimator, batch: EvalBatch) -> Tensor:
    """The prediction (B,24,3) m in the frame of the truth, with its hips at the true ones."""
    first = next(estimator.parameters(), None) if isinstance(estimator, torch.nn.Module) else None
    images = batch.images if first is None else batch.images.to(first.device)
    prediction = estimator(images).to("cpu")
    shift = _hips(batch.joints, batch.joint_set) - _hips(prediction.joints, prediction.joint_set)
    return _as_smpl(prediction.joints + shift, prediction.joint_set)


def _truth(batch: EvalBatch) -> Tensor:
    joints = batch.joints
    if batch.valid is not None:
        joints = torch.where(batch.valid[..., None], joints, torch.nan)
    return _as_smpl(joints, batch.joint_set)


@torch.no_grad()
def make_gallery(
    before: Judge,
    after: Judge,
    benchmarks: Sequence[Benchmark],
    results_before: Mapping[str, BenchmarkResult],
    results_after: Mapping[str, BenchmarkResult],
    file: Path,
    each: int = 9,
) -> Gallery:
    """Saves the gallery of the `each` hardest images of every benchmark. Without a known camera nothing is drawn."""
    columns: dict[str, list] = {name: [] for name in Gallery.__dataclass_fields__}
    pictures: list[Tensor] = []
    chosen = hardest(results_before, each)
    for benchmark in benchmarks:
        first, second = results_before[benchmark.name], results_after[benchmark.name]
        errors = [dict(zip(r.ids, r.per_image["mpjpe_mm"], strict=True)) for r in (first, second)]
        (old, _), (new, _) = (judge.for_truth_of(benchmark.truth_of) for judge in (before, after))
        for batch in benchmark.examples(chosen[benchmark.name]):
            pictures.append(batch.images)
            columns["joints2d_truth"].append(_project(batch, _truth(batch)))
            columns["joints2d_before"].append(_project(batch, _predicted(old, batch)))
            columns["joints2d_after"].append(_project(batch, _predicted(new, batch)))
            columns["error_before_mm"].append(errors[0][batch.ids[0]])
            columns["error_after_mm"].append(errors[1].get(batch.ids[0], np.nan))
            columns["benchmark"].append(benchmark.name)
            columns["ids"].append(batch.ids[0])
    _common_size(pictures, columns)
    gallery = Gallery(**{name: np.asarray(values) for name, values in columns.items()})
    gallery.save(file)
    return gallery


def _common_size(pictures: Sequence[Tensor], columns: dict[str, list]) -> None:
    """Fills the column of pictures (H,W,3) uint8, all of one size, and scales the joints with them."""
    size = min(LARGEST_PX, max(picture.shape[-1] for picture in pictures))
    for row, picture in enumerate(pictures):
        own, resized = picture.shape[-1], picture
        if own != size:
            resized = F.interpolate(picture, (size, size), mode="bilinear", antialias=True, align_corners=False)
            for name in ("joints2d_truth", "joints2d_before", "joints2d_after"):
                columns[name][row] = columns[name][row] * (size / own)
        columns["images"].append((resized[0].clamp(0, 1).permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())


def _project(batch: EvalBatch, joints_m: Tensor) -> np.ndarray:
    """(1,24,3) m in the frame of the truth -> (24,2) px; NaN where the picture's camera is not known."""
    if batch.camera is None:
        return np.full((joints_m.shape[1], 2), np.nan)
    return batch.camera.project(joints_m, min_depth_m=0.05)[0].numpy()
