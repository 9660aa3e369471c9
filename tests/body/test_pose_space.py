"""The plausibility meter: zero on the motion it was measured on, positive beyond, with the right size."""

from __future__ import annotations

from pathlib import Path

import torch

from posegen.body.joint_sets import SMPL24
from posegen.body.mocap import load_clips
from posegen.body.pose_space import (
    LIMIT_CLIPS,
    joint_limit_violation_rad,
    measured_limits,
    nearest_pose_distance_mm,
)
from posegen.body.rotations import mirror_pose


def test_known_motion_and_its_mirror_are_within_the_limits(assets: Path) -> None:
    pose = torch.cat([clip.pose for clip in load_clips(LIMIT_CLIPS)])
    assert float(joint_limit_violation_rad(pose).max()) == 0
    assert float(joint_limit_violation_rad(mirror_pose(pose)).max()) == 0
    assert float(joint_limit_violation_rad(torch.zeros(1, 24, 3))) == 0


def test_a_knee_bent_the_wrong_way_violates_by_its_excess(assets: Path) -> None:
    knee = SMPL24.index("left_knee")
    pose = torch.zeros(2, 24, 3)
    pose[0, knee, 0], pose[1, knee, 0] = -1.5, -2.0  # the shin forwards
    violation = joint_limit_violation_rad(pose)
    assert float(violation[0]) > 0.5
    torch.testing.assert_close(violation[1] - violation[0], torch.tensor(0.5))
    pose[0, knee, 0] = 1.5  # a normal bend
    assert float(joint_limit_violation_rad(pose)[0]) == 0


def test_global_orient_is_free(assets: Path) -> None:
    pose = torch.zeros(1, 24, 3)
    pose[0, 0] = torch.tensor([3.0, 0.0, 0.0])
    assert float(joint_limit_violation_rad(pose)) == 0


def test_limits_of_given_poses_with_gradient() -> None:
    seen = torch.zeros(1, 24, 3)
    seen[0, 4, 1] = 1.0  # left knee
    limits = measured_limits(seen, margin_rad=0.1)
    pose = torch.zeros(1, 24, 3)
    pose[0, 5] = torch.tensor([0.4, -1.5, 0.0])  # right knee: the mirror image holds -1.0 about y
    pose.requires_grad_()
    violation = joint_limit_violation_rad(pose, limits)
    torch.testing.assert_close(violation, torch.tensor([(0.3**2 + 0.4**2) ** 0.5]))
    violation.sum().backward()
    torch.testing.assert_close(pose.grad[0, 5], torch.tensor([0.6, -0.8, 0.0]))
    assert float(pose.grad[0, :5].abs().sum()) == 0


def test_distance_to_the_nearest_pose_is_a_mean_in_millimetres() -> None:
    pool = torch.randn(600, 24, 3, generator=torch.Generator().manual_seed(0))
    query = pool[[3, 400]] + torch.tensor([5.0, 1.0, 0.0])  # elsewhere in the world
    query[1, 12] += torch.tensor([0.0, 0.0, 0.24])  # one joint of 24 off by 240 mm
    distance = nearest_pose_distance_mm(query, pool)
    torch.testing.assert_close(distance, torch.tensor([0.0, 10.0]), atol=1e-2, rtol=0)
