"""What a target looks like, in numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from posegen.target.lifted import Lifted


def summary(lifted: Lifted) -> dict[str, Any]:
    """What the target looks like, in numbers: of the best hypotheses."""
    best, n = lifted.hypotheses, len(lifted)
    elevation = np.rad2deg(best.elevation_rad[:, 0].numpy())
    distance = best.distance_m[:, 0].numpy()

    def range_of(values) -> list[float]:
        return [round(float(v), 2) for v in np.percentile(values, (5, 50, 95))]

    return {
        "people": n,
        "left_out": dict(lifted.left_out),
        "hypotheses": int(best.score.shape[1]),
        "joint_set": lifted.joint_set,
        "reprojection_sides_median": round(float(best.reprojection[:, 0].median()), 4),
        "elevation_deg_5_50_95": range_of(elevation),
        "distance_m_5_50_95": range_of(distance),
        "weight_of_best_mean": round(float(best.weight[:, 0].mean()), 3),
    }
