"""The 2-D reprojection loss."""

from __future__ import annotations

import pytest
import torch

from posegen.body.joint_sets import COCO17, LIMBS12, SMPL24, JointSet
from posegen.errors import DataError
from posegen.estimator.weak_labels import OUTLIER, reprojection_error, reprojection_loss
from posegen.scene import Prediction

COMMON = [SMPL24.index(name) for name in LIMBS12.joints]


def joints(seed: int = 0) -> torch.Tensor:
    return SMPL24.centred(0.4 * torch.randn(3, 24, 3, generator=torch.Generator().manual_seed(seed)))


def keypoints(points: torch.Tensor) -> torch.Tensor:
    return torch.cat([points, torch.ones(*points.shape[:2], 1)], 2)


def test_the_estimators_own_camera_is_used() -> None:
    x, camera = joints(), torch.tensor([[0.9, 0.1, -0.2]]).expand(3, 3)
    true = 0.9 * (x[:, COMMON, :2] + torch.tensor([0.1, -0.2]))
    prediction = Prediction(x, "smpl24", camera=camera)
    assert reprojection_error(prediction, keypoints(true), LIMBS12).max() < 1e-5
    moved = reprojection_error(prediction, keypoints(true + torch.tensor([0.03, 0.04])), LIMBS12)
    torch.testing.assert_close(moved, torch.full((3,), 0.05), atol=1e-4, rtol=0)


def test_without_a_camera_scale_and_shift_do_not_matter_but_shape_does() -> None:
    x = joints()
    prediction = Prediction(x, "smpl24")
    true = 1.7 * x[:, COMMON, :2] + torch.tensor([0.3, -0.5])
    assert reprojection_loss(prediction, keypoints(true), LIMBS12) < 1e-8
    assert reprojection_error(prediction, keypoints(true * torch.tensor([1.0, 1.4])), LIMBS12).min() > 0.02


def test_what_is_not_seen_teaches_nothing() -> None:
    x = joints().requires_grad_()
    points = keypoints(joints(1)[:, COMMON, :2].detach())
    points[:, :, 2] = 0.0
    points[0, 0, :2] = torch.nan
    loss = reprojection_loss(Prediction(x, "smpl24"), points, LIMBS12)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert x.grad is not None
    assert x.grad.abs().max() == 0.0
    one = points.clone()
    one[0, 1:, 2] = 1.0
    assert reprojection_loss(Prediction(x, "smpl24"), one, LIMBS12) > 0


def test_steps_down_the_loss_bring_the_joints_to_the_keypoints() -> None:
    x = joints().requires_grad_()
    target = keypoints(joints(5)[:, COMMON, :2])
    start = reprojection_error(Prediction(x, "smpl24"), target, LIMBS12).mean()
    optimiser = torch.optim.Adam([x], 0.02)
    for _ in range(80):
        optimiser.zero_grad()
        reprojection_loss(Prediction(x, "smpl24"), target, LIMBS12).backward()
        optimiser.step()
    assert reprojection_error(Prediction(x, "smpl24"), target, LIMBS12).mean() < 0.4 * start


def test_an_outlier_pulls_less_than_its_distance() -> None:
    x = joints()
    camera = torch.tensor([[1.0, 0.0, 0.0]]).expand(3, 3)
    near = keypoints(x[:, COMMON, :2] + 0.0)
    near[:, 0, :2] += 3.0
    assert reprojection_loss(Prediction(x, "smpl24", camera=camera), near, LIMBS12) < OUTLIER**2 / 12 + 1e-4


def test_joint_sets_must_meet() -> None:
    other = JointSet("odd", ("a", "b"), ("a",))
    with pytest.raises(DataError, match="share 0 joints"):
        reprojection_loss(Prediction(joints(), "smpl24"), torch.zeros(3, 2, 3), other)
    with pytest.raises(DataError, match="3 pictures"):
        reprojection_loss(Prediction(joints(), "smpl24"), torch.zeros(3, 12, 3), COCO17)
