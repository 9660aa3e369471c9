"""Runs an estimator over a benchmark and keeps every image's errors for intervals and figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from posegen.benchmarks.measure import metrics
from posegen.benchmarks.measure.result import TAILS, BenchmarkResult
from posegen.benchmarks.measure.statistics import tail_mean
from posegen.benchmarks.measure.vertices import Posed, posed_prediction
from posegen.benchmarks.measure.viewpoint import wrong_way_round
from posegen.benchmarks.protocol import Benchmark, EvalBatch, Protocol
from posegen.body.joint_sets import joint_set
from posegen.errors import ConfigError, DataError
from posegen.scene import Estimator

Progress = Callable[[int, int], None]  # images done, images in all


@dataclass
class _Columns:
    """What is gathered over the batches."""

    ids: list[str]
    groups: list[str]
    actions: list[str]
    tracks: list[str]
    frames: list[int]
    per_image: dict[str, list[np.ndarray]]
    joint_errors: list[np.ndarray]
    # Compared joints of both sides, and which count, kept where frames are ordered.
    centred: list[tuple[Tensor, Tensor, Tensor]]
    azimuth: list[np.ndarray]
    elevation: list[np.ndarray]
    without_truth: list[str]  # images without any joint that could be compared
    without_root: list[str]  # images whose root joint is not annotated: nothing could be centred


@contextmanager
def _inference(estimator: Any) -> Iterator[torch.device]:
    """Evaluation mode and no gradient while it lasts; yields the device that the estimator's weights are on."""
    module = estimator if isinstance(estimator, nn.Module) else None
    training = {m: m.training for m in module.modules()} if module is not None else {}
    first = next(module.parameters(), None) if module is not None else None
    if module is not None:
        module.eval()
    try:
        with torch.no_grad():
            yield first.device if first is not None else torch.device("cpu")
    finally:
        for child, mode in training.items():
            child.training = mode


def _check_batch(batch: EvalBatch, protocol: Protocol) -> None:
    """Shapes and values a benchmark promises; a breach names the image."""
    if batch.joint_set != protocol.joint_set:
        raise DataError(f"{protocol.name}: batch in joint set {batch.joint_set}, protocol says {protocol.joint_set}")
    if batch.joints.shape[1:] != (len(joint_set(batch.joint_set)), 3):
        raise DataError(
            f"{protocol.name}: joints of shape {tuple(batch.joints.shape)} for {batch.joint_set}", where=batch.ids[0]
        )
    if batch.images.ndim != 4 or batch.images.shape[1] != 3 or batch.images.shape[2] != batch.images.shape[3]:
        raise DataError(
            f"{protocol.name}: images must be (B,3,S,S), not {tuple(batch.images.shape)}", where=batch.ids[0]
        )
    finite = torch.isfinite(batch.joints).all(-1)
    if batch.valid is not None:
        finite = finite | ~batch.valid.bool()
    if not finite.all():
        wrong = [name for name, good in zip(batch.ids, finite.all(-1).tolist(), strict=True) if not good]
        raise DataError(f"{protocol.name}: NaN or infinite joints in {len(wrong)} annotation(s)", where=wrong[0])


@dataclass(frozen=True)
class _Measured:
    """Errors of a batch; B images, C compared joints."""

    values: dict[str, Tensor]  # metric -> (B,)
    errors: Tensor  # (B,C) mm, NaN where a joint does not count
    prediction: Tensor  # (B,C,3) m, centred
    truth: Tensor  # (B,C,3) m, centred
    valid: Tensor  # (B,C) bool


def _usable(batch: EvalBatch, posed: Posed, protocol: Protocol, columns: _Columns) -> list[int]:
    """Rows of the batch that can be measured; the others are named by what they lack.

    Without its root a person cannot be centred: its joints would be compared with those of one who stands elsewhere.
    """
    if batch.valid is None:
        return list(range(len(batch)))
    names, valid = joint_set(batch.joint_set), batch.valid.bool()
    any_joint = valid[:, [names.index(name) for name in protocol.compared(posed.joint_set)]].any(1)
    root = valid[:, [names.index(name) for name in protocol.matched_root(posed.joint_set)]].all(1)
    kept = []
    for row, (something, centred) in enumerate(zip(any_joint.tolist(), root.tolist(), strict=True)):
        if something and centred:
            kept.append(row)
        else:
            (columns.without_root if something else columns.without_truth).append(batch.ids[row])
    return kept


def _measure(posed: Posed, batch: EvalBatch, protocol: Protocol) -> _Measured:
    """Per-image metrics of a batch whose rows all have a root and a joint to compare."""
    prediction, truth = protocol.matched(posed.joints.double(), posed.joint_set, batch.joints.double())
    compared = protocol.compared(posed.joint_set)
    valid = None
    if batch.valid is not None:
        names = joint_set(batch.joint_set)
        valid = batch.valid.bool()[:, [names.index(name) for name in compared]]
    errors = metrics.distances_mm(prediction, truth)
    counted = [i for i, name in enumerate(compared) if not protocol.pck_joints or name in protocol.pck_joints]
    pck_errors, pck_valid = errors[:, counted], None if valid is None else valid[:, counted]
    values = {
        "mpjpe_mm": metrics.masked_mean(errors, valid),
        "pa_mpjpe_mm": metrics.pa_mpjpe_mm(prediction, truth, valid),
        "pck_150": metrics.pck_of_distances(pck_errors, metrics.PCK_THRESHOLD_MM, pck_valid),
        "auc": metrics.auc_of_distances(pck_errors, pck_valid),
    }
    turned = wrong_way_round(prediction, truth, compared, valid)
    if turned is not None:
        values["wrong_way_round"] = turned
    failed = ~torch.isfinite(prediction).all(-1).all(-1)
    if posed.vertices is not None and batch.vertices is not None:
        root = protocol.matched_root(posed.joint_set)
        p_root = _root(posed.joints, posed.joint_set, root)
        t_root = _root(batch.joints, batch.joint_set, root)
        values["pve_mm"] = metrics.pve_mm(
            posed.vertices.double() - p_root.double(), batch.vertices.double() - t_root.double()
        )
    values = {name: torch.where(failed, torch.nan, value) for name, value in values.items()}
    if valid is None:
        valid = torch.ones(errors.shape, dtype=torch.bool)
    else:
        errors = torch.where(valid, errors, torch.nan)
    return _Measured(values, errors, prediction, truth, valid)


def _root(joints: Tensor, set_name: str, root: tuple[str, ...]) -> Tensor:
    """(B,1,3): the mean of the named joints."""
    names = joint_set(set_name)
    return joints[:, [names.index(name) for name in root]].mean(1, keepdim=True)


def _acceleration(columns: _Columns) -> np.ndarray:
    """Acceleration error (N,) mm per frame squared, NaN where an image's neighbours in time are not there."""
    prediction, truth, valid = (torch.cat(parts) for parts in zip(*columns.centred, strict=True))
    result = np.full(len(columns.ids), np.nan)
    places: dict[str, list[int]] = {}
    for place, group in enumerate(columns.tracks):
        places.setdefault(group, []).append(place)
    for members in places.values():
        order = sorted(members, key=lambda place: columns.frames[place])
        if len(order) < 3:
            continue
        frames = np.array([columns.frames[place] for place in order])
        steps = np.diff(frames)
        usable = (steps[:-1] == steps[1:]) & (steps[:-1] == steps.min())
        error = metrics.acceleration_error_mm(prediction[order], truth[order], valid[order]).numpy()
        result[np.array(order[1:-1])[usable]] = error[usable]
    return result


def _extend(columns: _Columns, batch: EvalBatch) -> None:
    unknown = np.full(len(batch), np.nan)
    columns.ids.extend(batch.ids)
    columns.groups.extend(batch.groups)
    columns.tracks.extend(batch.tracks or batch.groups)
    columns.actions.extend(batch.actions or [""] * len(batch))
    columns.frames.extend(batch.frames or [0] * len(batch))
    columns.azimuth.append(unknown if batch.azimuth_rad is None else batch.azimuth_rad.double().cpu().numpy())
    columns.elevation.append(unknown if batch.elevation_rad is None else batch.elevation_rad.double().cpu().numpy())


def evaluate(
    estimator: Estimator,
    benchmark: Benchmark,
    body: nn.Module | None = None,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> BenchmarkResult:
    """Errors of an estimator on a benchmark.

    Prediction and truth are compared on the protocol's joints that both have, centred on the same root. With a `body`,
    an estimator that gives rotations and betas also gets vertices (for PVE) and, where the truth's joints are regressed
    from the mesh, joints regressed in the same way.

    Args:
        body: posegen.body.model.BodyModel of the estimator (neutral SMPL, or the free body).
        progress: called with the number of images done and the number in all.

    Example:
        >>> from posegen import build_benchmark, build_estimator, evaluate
        >>> result = evaluate(build_estimator("hmr_small"), build_benchmark("ski-like", images=8, size_px=64))
        >>> result.benchmark, len(result.ids), result.metrics["mpjpe_mm"] > 0
        ('ski-like', 8, True)
    """
    protocol = benchmark.protocol
    columns = _Columns([], [], [], [], [], {}, [], [], [], [], [], [])
    compared: tuple[str, ...] = ()
    how: set[str] = set()
    seen = 0
    with _inference(estimator) as device:
        for batch in benchmark.batches(batch_size):
            _check_batch(batch, protocol)
            prediction = estimator(batch.images.to(device)).to("cpu")
            if len(prediction) != len(batch):
                raise ConfigError(f"{estimator.name} returned {len(prediction)} predictions for {len(batch)} images")
            posed = posed_prediction(prediction, batch, protocol, body, benchmark.vertex_subset, benchmark.truth_body)
            how.add(posed.how)
            compared = protocol.compared(posed.joint_set)
            kept = _usable(batch, posed, protocol, columns)
            seen += len(batch)
            if kept:
                _add(columns, posed.take(kept), batch.take(kept), protocol)
            if progress is not None:
                progress(seen, len(benchmark))
    left_out = dict(benchmark.skipped.by_reader)
    for reason, names in (("without_truth", columns.without_truth), ("without_root", columns.without_root)):
        if names:
            left_out[reason] = [*left_out.get(reason, ()), *names]
    if not columns.ids:
        raise _nothing_to_measure(benchmark, columns)
    number = len(columns.ids)
    per_image = {name: np.concatenate(parts) for name, parts in columns.per_image.items()}
    per_image = {name: value for name, value in per_image.items() if len(value) == number}
    if len(columns.centred) == len(columns.joint_errors):
        per_image["acceleration_mm"] = _acceleration(columns)
    failed = int(np.isnan(per_image["mpjpe_mm"]).sum())
    counted = {
        "used": number - failed,
        "missing": len(benchmark.skipped.missing),
        "damaged": len(benchmark.skipped.damaged),
        "failed": failed,
        **{reason: len(names) for reason, names in left_out.items()},
    }
    result_metrics = {name: _mean(value) for name, value in per_image.items()}
    result_metrics |= {name: tail_mean(per_image["mpjpe_mm"], share) for name, share in TAILS.items()}
    result_metrics |= benchmark.detection(result_metrics, counted)
    told = [f"{protocol}; prediction {' / '.join(sorted(how))}; {len(compared)} joints compared"]
    told += [f"{len(names)} {_REASONS.get(reason, reason)}" for reason, names in left_out.items()]
    return BenchmarkResult(
        benchmark=benchmark.name,
        protocol="; ".join(told),
        estimator=estimator.name,
        ids=columns.ids,
        groups=columns.groups,
        actions=columns.actions,
        per_image=per_image,
        azimuth=np.concatenate(columns.azimuth),
        elevation=np.concatenate(columns.elevation),
        joint_names=list(compared),
        joint_errors_mm=np.concatenate(columns.joint_errors),
        metrics=result_metrics,
        counted=counted,
        skipped=[
            *benchmark.skipped.missing,
            *benchmark.skipped.damaged,
            *(name for part in left_out.values() for name in part),
        ],
    )  # fmt: skip


_REASONS = {
    "without_truth": "rows without any 3D joint left out",
    "without_root": "rows whose root joint is not annotated left out",
    "beyond_video": "poses after the last picture of their video left out",
}


def _add(columns: _Columns, posed: Posed, batch: EvalBatch, protocol: Protocol) -> None:
    measured = _measure(posed, batch, protocol)
    for name, value in measured.values.items():
        columns.per_image.setdefault(name, []).append(value.numpy())
    columns.joint_errors.append(measured.errors.numpy())
    if batch.frames is not None and protocol.ordered:
        columns.centred.append((measured.prediction, measured.truth, measured.valid))
    _extend(columns, batch)


def _nothing_to_measure(benchmark: Benchmark, columns: _Columns) -> DataError:
    """What is wrong with a benchmark of which no image could be measured."""
    if columns.without_root:
        root = "+".join(benchmark.protocol.root_joints)
        return DataError(
            f"{benchmark.name}: no row has an annotated root joint ({root}), on which both sides are centred",
            where=columns.without_root[0],
            next_command="give that joint and its confidence in the annotations",
        )
    if columns.without_truth:
        return DataError(f"{benchmark.name}: no row has a 3D joint", where=columns.without_truth[0])
    return DataError(f"{benchmark.name} has no image to evaluate")


def _mean(values: np.ndarray) -> float:
    """Mean of the finite entries, NaN if there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan
