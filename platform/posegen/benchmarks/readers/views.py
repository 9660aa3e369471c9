"""From ground truth to pixels of the crop: cameras for those who draw a person over a picture.

Data sets give 2D joints beside the 3D ones, seldom a camera that fits both (MPI-INF-3DHP's universal skeleton, SPIN's
root-centred joints). A weak-perspective camera is fitted to each person, which draws what the annotators saw; numbers
never depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from typing import Protocol as TypingProtocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posegen.body.joint_sets import JointSet
from posegen.estimator.spin_crop import box_corners
from posegen.scene import Camera

if TYPE_CHECKING:
    from posegen.benchmarks.readers.frames import FrameRecord

_FAR_M = 100.0  # where a weak-perspective camera stands: perspective is below 1 % of a person's size there
_FEWEST = 4  # joints with both annotations below which nothing is fitted


class Views(TypingProtocol):
    """Rows of annotations and their true joints (B,J,3) m -> a camera each, from the joints' frame to picture px."""

    def __call__(self, rows: Sequence[int], joints_m: Tensor) -> Camera: ...


@dataclass(frozen=True)
class FittedViews:
    """Weak-perspective cameras, fitted to annotated 2D joints.

    Args:
        points_px: (N,K,2) in the whole picture, NaN where not annotated; points: the joint set of them;
        joints: that of the truth.
    """

    points_px: NDArray
    points: JointSet
    joints: JointSet

    def __call__(self, rows: Sequence[int], joints_m: Tensor) -> Camera:
        in_joints, in_points = self.joints.common(self.points)
        target = np.asarray(self.points_px[list(rows)], np.float64)[:, in_points]
        source = joints_m[:, in_joints].double().numpy()
        fits = [_fitted(s, t) for s, t in zip(source, target, strict=True)]
        number = len(rows)
        scale, shift, middle = (torch.tensor(np.stack(part)).float() for part in zip(*fits, strict=True))
        t = torch.cat([-middle[:, :2], _FAR_M - middle[:, 2:]], 1)
        return Camera(torch.eye(3).repeat(number, 1, 1), t, scale * _FAR_M, shift, 0, 0)


def _fitted(source_m: NDArray, target_px: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Scale px/m, place (2,) px of the joints' middle (3,) m, by least squares; NaN where too few joints are known."""
    known = np.isfinite(target_px).all(-1)
    if known.sum() < _FEWEST:
        return np.asarray(np.nan), np.full(2, np.nan), np.full(3, np.nan)
    middle, place = source_m[known].mean(0), target_px[known].mean(0)
    flat, seen = (source_m[known] - middle)[:, :2], target_px[known] - place
    return np.asarray((flat * seen).sum() / max(float((flat**2).sum()), 1e-12)), place, middle


def in_crop(camera: Camera, records: Sequence[FrameRecord], size_px: int) -> Camera:
    """The same cameras in px of the crops (size_px, size_px) of the records."""
    corners = [box_corners(record.centre_px, record.scale, size_px) for record in records]
    low = torch.tensor(np.stack([corner[0] for corner in corners])).float()
    side = torch.tensor([float(corner[1][0] - corner[0][0]) for corner in corners])
    zoom = size_px / side
    return replace(
        camera,
        focal=camera.focal * zoom, centre=(camera.centre - low) * zoom[:, None], height=size_px, width=size_px,
    )  # fmt: skip
