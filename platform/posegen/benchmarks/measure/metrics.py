"""Errors of 3D joints and vertices, per item, to the published definitions. Sums in float64, results in mm or %.

- MPJPE: mean over joints of the Euclidean distance (Ionescu et al. 2014). Callers centre both sides on the root.
- PA-MPJPE: the same after a similarity (Procrustes) alignment of each item.
- PVE: mean over vertices of the distance, both sides centred on the root joint (also MVE).
- PCK@150: share of joints nearer than 150 mm, strictly; AUC: mean PCK over the 31 thresholds 0, 5, ..., 150 mm
  (Mehta et al. 2017, mpii_compute_3d_pck of the MPI-INF-3DHP test set release).
- Acceleration error: mean over joints of |a_pred - a_true|, a_t = x_{t-1} - 2 x_t + x_{t+1}, mm per frame squared
  (Kanazawa et al. 2019, VIBE).

Dimensions: B items, J joints, V vertices, T frames. `valid (B,J)`: the joints that count; an item with none is NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from posegen.benchmarks.measure.procrustes import procrustes

MM_PER_M = 1000.0
PCK_THRESHOLD_MM = 150.0
AUC_THRESHOLDS_MM: tuple[float, ...] = tuple(float(t) for t in range(0, 151, 5))


def distances_mm(prediction_m: Tensor, truth_m: Tensor) -> Tensor:
    """Euclidean distances of points (...,N,3) m -> (...,N) mm, float64."""
    difference = prediction_m.to(torch.float64) - truth_m.to(torch.float64)
    return difference.square().sum(-1).sqrt() * MM_PER_M


def masked_mean(values: Tensor, valid: Tensor | None) -> Tensor:
    """Mean over the last dimension of (B,J) of the valid entries; NaN where there is none."""
    if valid is None:
        return values.mean(-1)
    return torch.where(valid, values, 0.0).sum(-1) / valid.sum(-1)


def pa_distances_mm(prediction_m: Tensor, truth_m: Tensor, valid: Tensor | None = None) -> Tensor:
    """Distances (B,J) mm after the similarity alignment of each item of (B,J,3) m."""
    return distances_mm(procrustes(prediction_m, truth_m, valid), truth_m)


def mpjpe_mm(prediction_m: Tensor, truth_m: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean joint error of (B,J,3) m, as given (callers align the roots) -> (B,) mm."""
    return masked_mean(distances_mm(prediction_m, truth_m), valid)


def pa_mpjpe_mm(prediction_m: Tensor, truth_m: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean joint error of (B,J,3) m after a similarity alignment -> (B,) mm."""
    return masked_mean(pa_distances_mm(prediction_m, truth_m, valid), valid)


def pve_mm(prediction_m: Tensor, truth_m: Tensor) -> Tensor:
    """Mean vertex error of (B,V,3) m, as given (callers align the roots) -> (B,) mm."""
    return distances_mm(prediction_m, truth_m).mean(-1)


def pck_of_distances(errors_mm: Tensor, threshold_mm: float = PCK_THRESHOLD_MM, valid: Tensor | None = None) -> Tensor:
    """Share of joint errors (B,J) mm strictly below the threshold -> (B,) %."""
    return masked_mean((errors_mm < threshold_mm).to(torch.float64), valid) * 100


def auc_of_distances(errors_mm: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean PCK over 0:5:150 mm of joint errors (B,J) mm -> (B,) %."""
    return torch.stack([pck_of_distances(errors_mm, t, valid) for t in AUC_THRESHOLDS_MM]).mean(0)


def pck(
    prediction_m: Tensor, truth_m: Tensor, threshold_mm: float = PCK_THRESHOLD_MM, valid: Tensor | None = None
) -> Tensor:
    """Share of joints of (B,J,3) m nearer than the threshold, without Procrustes -> (B,) %."""
    return pck_of_distances(distances_mm(prediction_m, truth_m), threshold_mm, valid)


def auc(prediction_m: Tensor, truth_m: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean PCK over 0:5:150 mm of joints (B,J,3) m -> (B,) %."""
    return auc_of_distances(distances_mm(prediction_m, truth_m), valid)


def acceleration_error_mm(prediction_m: Tensor, truth_m: Tensor) -> Tensor:
    """Acceleration error of one ordered clip (T,J,3) m -> (T-2,) mm per frame squared, for its inner frames."""

    def acceleration(x: Tensor) -> Tensor:
        x = x.to(torch.float64)
        return x[:-2] - 2 * x[1:-1] + x[2:]

    return distances_mm(acceleration(prediction_m), acceleration(truth_m)).mean(-1)
