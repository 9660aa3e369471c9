"""AGORA's matching of predicted to true people, and the scores that follow from it (agora_evaluation).

For each picture all pairs are visited in the order of their 2D joint distance. A pair whose boxes overlap less than 0.1
counts as a false positive; otherwise prediction and person are matched, if both are free. People that are not valid
(occlusion above 90 %) take no part: they are no misses, but who predicts them has a false positive. F1 is rounded to
two decimals before it divides, as the official code does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IOU_THRESHOLD = 0.1
JOINTS = 24


@dataclass(frozen=True)
class Matching:
    """What came of one picture."""

    pairs: tuple[tuple[int, int], ...]  # (prediction, person)
    misses: tuple[int, ...]  # valid people without prediction
    false_positives: tuple[int, ...]  # predictions without person


def overlap(first: NDArray, second: NDArray) -> float:
    """Intersection over union of the boxes around two sets of points (N,2) px, counted in whole pixels."""
    low = np.maximum(first.min(0), second.min(0))
    high = np.minimum(first.max(0), second.max(0))
    shared = np.maximum(0, high - low + 1).prod()
    areas = [(points.max(0) - points.min(0) + 1).prod() for points in (first, second)]
    return float(shared / (sum(areas) - shared))


def match(predicted: Sequence[NDArray], true: Sequence[NDArray], valid: Sequence[bool]) -> Matching:
    """Greedy matching of 2D joints (J,2) px, nearest first."""
    distance = np.full((len(predicted), len(true)), np.inf)
    for i, p in enumerate(predicted):
        for j, t in enumerate(true):
            # The official code takes the spectral norm of the (24,2) difference, not the Frobenius norm.
            distance[i, j] = np.linalg.norm(p[:JOINTS, :2] - t[:JOINTS, :2], 2)
    free_prediction, free_person = np.ones(len(predicted), bool), np.ones(len(true), bool)
    pairs: list[tuple[int, int]] = []
    rejected = 0
    for flat in np.argsort(distance, axis=None, kind="stable"):
        if not free_person.any() or (~free_prediction).sum() + rejected >= len(predicted):
            break
        i, j = np.unravel_index(flat, distance.shape)
        far = overlap(predicted[i][:, :2], true[j][:, :2]) < IOU_THRESHOLD
        if not far and not (free_prediction[i] and free_person[j]):
            continue
        rejected += far
        if not valid[j]:
            free_person[j] = False
        elif not far:
            pairs.append((int(i), int(j)))
            free_prediction[i] = free_person[j] = False
    matched_people = {j for _, j in pairs}
    matched_predictions = {i for i, _ in pairs}
    misses = tuple(j for j in range(len(true)) if valid[j] and j not in matched_people)
    false = tuple(i for i in range(len(predicted)) if i not in matched_predictions)
    return Matching(tuple(pairs), misses, false)


def detection_scores(matched: int, misses: int, false_positives: int) -> dict[str, float]:
    """Precision, recall and F1, rounded to two decimals as agora_evaluation's compute_prf1 does."""
    people = matched + misses
    if people == 0:
        return {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    found = matched + false_positives
    return {
        "precision": round(matched / found, 2) if found else 0.0,
        "recall": round(matched / people, 2),
        "f1": round(matched / (matched + 0.5 * (false_positives + misses)), 2),
    }


def normalised(metrics: dict[str, float], scores: dict[str, float]) -> dict[str, float]:
    """The scores with NMJE and NMVE in mm: MPJPE and MVE divided by F1, NaN where nobody was found."""
    result = dict(scores)
    for name, source in (("nmje_mm", "mpjpe_mm"), ("nmve_mm", "pve_mm")):
        if source in metrics:
            result[name] = metrics[source] / scores["f1"] if scores["f1"] > 0 else float("nan")
    return result
