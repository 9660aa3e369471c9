"""What a run says of its target: who is in it, from where, whom the estimator fails on, and whether that became better.

All of it comes from pictures and 2-D keypoints: none of these numbers needs 3-D truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from posegen.arms.registry import BEFORE
from posegen.benchmarks.measure.statistics import Interval, bootstrap_mean, paired_bootstrap
from posegen.body.joint_sets import joint_set
from posegen.body.rotations import aa_to_matrix
from posegen.config import PosegenConfig
from posegen.estimator.configured import build_estimator
from posegen.estimator.crop import crop_of
from posegen.estimator.preprocess import to_float
from posegen.estimator.weak_labels import WeakRows, reprojected
from posegen.experiment.target_stages import TargetStages
from posegen.files.atomic import replacing
from posegen.files.state import read_json
from posegen.target.crops import TargetCrops
from posegen.target.lifted import Lifted, read_lifted
from posegen.target.people import People
from posegen.tracking.report.pictures import (
    PREDICTION,
    TRUTH,
    Pixels,
    Skeleton,
    Tile,
    beside,
    contact_sheet,
    overlay,
)

WORST = 12  # people in the picture of failures
ELEVATIONS_DEG = ((-90, -10), (-10, 10), (10, 30), (30, 90))
FACINGS = {"towards the camera": (0, 45), "sideways": (45, 135), "away from the camera": (135, 180)}
FEW = 5  # people: means of fewer are not told


def target_account(
    stages: TargetStages, config: PosegenConfig, weights: Mapping[str, Path | None], method: str
) -> dict[str, Any] | None:
    """The target's part of summary.json; None without a target. Leaves target/failures.png.

    Args:
        weights: of each arm's estimator, `before` among them.
        method: the arm whose estimator stands for "after".
    """
    people, files = stages.people(), stages.files()
    if people is None or files is None:
        return None
    told: dict[str, Any] = dict(read_json(stages.folder / "summary.json", "the target's summary"))
    if not people.target.pictures:
        return told
    if people.held.any():
        told["reprojection"] = _reprojection(stages, config, people, weights)
        tuned = {BEFORE: weights.get(BEFORE), method: weights.get(method)}
        _failures(stages, config, people.kept_back, tuned)
    before = stages.errors_of(BEFORE, None, held=False)
    after = stages.errors_of(method, weights.get(method), held=False) if method != BEFORE else before
    told["by_view"] = by_view(read_lifted(files.lifted), before, after)
    return told


def _reprojection(
    stages: TargetStages, config: PosegenConfig, people: People, weights: Mapping[str, Path | None]
) -> dict[str, Any]:
    """The error of each arm on people held out, % of the crop's side, with its change against before."""
    errors = {arm: 50 * stages.errors_of(arm, file, held=True) for arm, file in weights.items()}
    held = people.kept_back.target
    # People of one recording or picture err alike: they are drawn together.
    recordings = held.sequences or ("",) * len(held)
    groups = [
        recording or name.rpartition("#")[0] or name for recording, name in zip(recordings, held.names, strict=True)
    ]
    told = {}
    for arm, own in errors.items():
        told[arm] = _plain(bootstrap_mean(own, config.seed, groups, resamples=config.evaluation.bootstrap))
        if arm != BEFORE:
            change = paired_bootstrap(
                errors[BEFORE], own, config.seed, groups, relative=True, resamples=config.evaluation.bootstrap
            )
            told[arm]["change"] = _plain(change)
    return told


def _plain(interval: Interval) -> dict[str, Any]:
    return {"value": interval.value, "low": interval.low, "high": interval.high, "images": interval.count}


def by_view(lifted: Lifted, before: NDArray, after: NDArray) -> list[dict[str, Any]]:
    """Mean reprojection error by where the camera is and whither people face, of those who were lifted.

    Args:
        before, after: (N,) half crop's sides, NaN where nothing was seen.
    """
    elevation, facing = views_of(lifted)
    rows = [
        (f"camera {low} to {high}°" if abs(low) < 90 and abs(high) < 90 else
         f"camera below {high}°" if low <= -90 else f"camera above {low}°", (elevation >= low) & (elevation < high))
        for low, high in ELEVATIONS_DEG
    ]  # fmt: skip
    rows += [(name, (facing >= low) & (facing < high + 1e-6)) for name, (low, high) in FACINGS.items()]
    told = []
    for name, mask in rows:
        known = mask & np.isfinite(before) & np.isfinite(after)
        few = known.sum() < FEW
        told.append({
            "name": name, "people": int(mask.sum()), "share": float(mask.mean()),
            "before": None if few else 50 * float(before[known].mean()),
            "after": None if few else 50 * float(after[known].mean()),
        })  # fmt: skip
    return told


def views_of(lifted: Lifted) -> tuple[NDArray, NDArray]:
    """Of each person's best hypothesis: the camera's elevation, and how far the person faces away from it (N,) deg."""
    best = lifted.hypotheses
    elevation = np.rad2deg(best.elevation_rad[:, 0].numpy())
    forward = aa_to_matrix(best.pose[:, 0, 0])[:, :, 2]  # the camera is at azimuth 0: where +z is
    return elevation, np.rad2deg(torch.atan2(forward[:, 0].abs(), forward[:, 2]).numpy())


def _failures(stages: TargetStages, config: PosegenConfig, held: People, tuned: Mapping[str, Path | None]) -> None:
    """A picture of the people on whom the estimator reprojected worst before, and of the same after."""
    errors = stages.errors_of(BEFORE, None, held=True)
    worst = np.argsort(-np.nan_to_num(errors, nan=-1.0), kind="stable")[:WORST]
    estimators = [build_estimator(config, checkpoint=str(file) if file else None) for file in tuned.values()]
    rows = TargetCrops(held, crop_of(estimators[0]), keep_mb=0).rows(worst.tolist())
    seen = [_seen_by(estimator, rows) for estimator in estimators]
    later = stages.errors_of(list(tuned)[-1], list(tuned.values())[-1], held=True)
    tiles = [
        Tile(
            beside([_drawn(rows, index, points[index]) for points in seen]),
            f"{50 * errors[row]:.1f} to {50 * later[row]:.1f} % of the crop",
        )
        for index, row in enumerate(worst)
    ]
    with replacing(stages.folder / "failures.png") as partial, partial.open("wb") as file:
        Image.fromarray(contact_sheet(tiles, 4)).save(file, "PNG")


@torch.no_grad()
def _seen_by(estimator: Any, rows: WeakRows) -> torch.Tensor:
    """Where an estimator sees the joints: (B,K,2) crop units, NaN for those that it does not tell."""
    if isinstance(estimator, torch.nn.Module):
        estimator.eval()
    names = joint_set(rows.joint_set)
    prediction = estimator(to_float(rows.images))
    points, columns = reprojected(prediction, rows.keypoints, names)
    placed = torch.full((len(rows), len(names), 2), torch.nan)
    placed[:, columns] = points.cpu()
    return placed


def _drawn(rows: WeakRows, index: int, points: torch.Tensor) -> Pixels:
    """A crop with its keypoints and with where an estimator sees them."""
    size = rows.images.shape[-1]
    image = rows.images[index].permute(1, 2, 0).numpy()
    keypoints = rows.keypoints[index]
    known = torch.where(keypoints[:, 2:] > 0, keypoints[:, :2], torch.nan)
    skeletons = [
        Skeleton(((what + 1) * size / 2).numpy(), colour, rows.joint_set)
        for what, colour in ((known, TRUTH), (points, PREDICTION))
    ]
    return overlay(image, skeletons, max(1, round(192 / size)))
