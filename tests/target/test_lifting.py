"""Lifting: derivatives, invariances, and people and cameras against known truth."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch
from lifting_truth import keypoints_of, measured

from posegen.body.cameras import look_at_camera
from posegen.body.joint_sets import COCO17, LIMBS12, SMPL24, JointSet, joint_set
from posegen.body.mocap import load_clips
from posegen.body.model import BodyModel, load_body
from posegen.body.rotations import aa_to_matrix
from posegen.config import compose
from posegen.errors import DataError
from posegen.scenes.split import load_split
from posegen.scenes.world import face_front, real_poses
from posegen.target.lift.config import LiftConfig
from posegen.target.lift.dictionary import Found, apart, find
from posegen.target.lift.lifter import Hypotheses, Lifter
from posegen.target.lift.parameters import LOG_DEPTH, Kinematics, camera_rotation
from posegen.target.lift.points import body_points
from posegen.target.lift.sequence import camera_joints
from posegen.target.lift.together import in_one_camera
from posegen.target.lift.world import camera_log_prior, settled, tilts_of, world_log_likelihood

PEOPLE = 24


@pytest.fixture(scope="module")
def body(assets) -> BodyModel:
    return load_body(resolution="low")


@pytest.fixture(scope="module")
def lifter(body: BodyModel) -> Lifter:
    pool = load_split("embedded")["pool"]
    poses = torch.cat([face_front(clip.pose) for clip in load_clips(list(pool.clips))])
    return Lifter(LIMBS12, body, poses, LiftConfig(dictionary=12000))


def as_double(kinematics: Kinematics) -> Kinematics:
    kinematics.rest, kinematics.directions = kinematics.rest.double(), kinematics.directions.double()
    points = kinematics.points
    real = {f.name: getattr(points, f.name) for f in fields(points) if f.name in ("joint", "moved", "offsets_m")}
    kinematics.points = replace(points, **{name: value.double() for name, value in real.items()})
    return kinematics


@pytest.mark.parametrize(("names", "shapes"), [("limbs12", 0), ("openpose25", 5), ("blazepose33", 0)])
def test_derivatives_of_the_points_are_those_of_differences(body: BodyModel, names: str, shapes: int) -> None:
    kinematics = as_double(Kinematics(body, body_points(joint_set(names), body), shapes))
    generator = torch.Generator().manual_seed(3)
    x = 0.4 * torch.randn(2, kinematics.unknowns, dtype=torch.float64, generator=generator)
    x[:, LOG_DEPTH] = 1.4
    root = aa_to_matrix(torch.randn(2, 3, dtype=torch.float64, generator=generator))
    jacobian = kinematics.see(x, root).jacobian
    assert jacobian is not None
    for column in range(kinematics.unknowns):
        step = torch.zeros_like(x)
        step[:, column] = 1e-6
        difference = (
            kinematics.see(x + step, root, False).points - kinematics.see(x - step, root, False).points
        ) / 2e-6
        torch.testing.assert_close(jacobian[..., column], difference, atol=1e-6, rtol=0)


def test_the_camera_is_that_of_look_at_camera() -> None:
    elevation, roll = torch.tensor([0.4, -0.9]), torch.tensor([0.1, -0.2])
    expected = look_at_camera(torch.zeros(2), elevation, torch.ones(2), roll).R
    torch.testing.assert_close(camera_rotation(elevation, roll)[0], expected, atol=1e-6, rtol=0)


def test_points_of_the_face_lie_on_the_head_and_follow_it(body: BodyModel) -> None:
    points = body_points(COCO17, body)
    rotations = torch.eye(3).expand(1, 24, 3, 3)
    places = points.joint @ points.of(body.joints(rotations, torch.zeros(1, 10)), rotations)[0]
    nose, left, right = (places[points.names.index(name)] for name in ("nose", "left_ear", "right_ear"))
    head = body.joints(rotations, torch.zeros(1, 10))[0, SMPL24.index("head")]
    assert 0.06 < nose[2] - head[2] < 0.18
    assert float(left[0]) == pytest.approx(-float(right[0]), abs=1e-6)
    assert 0.1 < left[0] - right[0] < 0.25


def test_a_joint_set_without_limbs_is_refused(body: BodyModel) -> None:
    face = JointSet("face3", ("nose", "left_eye", "right_eye"), ("nose",))
    with pytest.raises(DataError, match="too few joints of arms and legs"):
        body_points(face, body)


def test_an_entry_is_found_again_whatever_its_size_and_place(lifter: Lifter) -> None:
    entries = lifter.dictionary[torch.arange(0, 3000)]
    seen = 0.3 * entries.points[[5, 77]] + torch.tensor([0.2, -0.1])
    found: Found = find(replace(entries, cost=entries.cost * 0, view_cost=entries.view_cost * 0), seen,
                        torch.ones(2, 12), 3)  # fmt: skip
    assert found.index[:, 0].tolist() == [5, 77]
    torch.testing.assert_close(found.scale[:, 0], torch.full((2,), 0.3), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.shift[:, 0], torch.tensor([[0.2, -0.1]] * 2), atol=1e-3, rtol=0)


def test_joints_that_are_not_seen_do_not_count(lifter: Lifter) -> None:
    keypoints, _ = keypoints_of(load_split("embedded")["validation"], 2, seed=4)
    keypoints[:, 5, 2] = 0.0
    moved = keypoints.clone()
    moved[:, 5, :2] = 9.0
    first, second = lifter(keypoints), lifter(moved)
    torch.testing.assert_close(first.pose, second.pose)
    assert torch.isfinite(first.score).all()


def test_candidates_differ_until_there_are_no_more() -> None:
    cost = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    joints = torch.tensor([0.0, 0.01, 1.0, 2.0]).view(1, 4, 1, 1).expand(1, 4, 2, 3)
    assert apart(cost, joints, 4, 0.1).tolist() == [[0, 2, 3, 1]]


def standing_and_lying(body: BodyModel) -> torch.Tensor:
    """Two poses of a pool in which stretched people stand and people with bent knees lie on their back."""
    poses = torch.zeros(2, 24, 3)
    poses[1, 0, 0] = -math.pi / 2
    poses[1, [4, 5], 0] = 1.2
    return poses


def world_of(poses: torch.Tensor, elevation_deg: list[float], body: BodyModel):
    """Joints and roots in the frame of cameras of these elevations, without roll."""
    matrices = aa_to_matrix(poses)
    joints = body.joints(matrices, torch.zeros(len(poses), 10))
    true = torch.deg2rad(torch.tensor(elevation_deg))
    rotation, _, _ = camera_rotation(true, torch.zeros(len(true)))
    return (joints - joints[:, :1]) @ rotation.mT, rotation @ matrices[:, 0], true


def test_a_standing_person_seen_from_above_is_a_high_camera_and_no_leaning_person(body: BodyModel) -> None:
    config = LiftConfig()
    pool = standing_and_lying(body)
    joints, root, true = world_of(pool[[0, 0, 0, 1]], [-20.0, 5.0, 45.0, 10.0], body)
    likelihood = world_log_likelihood(joints, root, tilts_of(pool, body, config), config)
    said = settled(camera_log_prior(config) + likelihood)
    assert torch.rad2deg((said.elevation - true).abs()).max() < 9
    assert said.roll.abs().max() < 0.03
    assert 0.02 < float(said.elevation_spread.max()) < 0.3


def test_like_poses_tell_how_people_in_a_pose_are_tilted(body: BodyModel) -> None:
    pool = standing_and_lying(body)
    tilts = tilts_of(pool, body, LiftConfig(like_m=0.05))
    asked = pool[[0, 1]].clone()
    asked[:, 0] = 0  # whatever its own root says
    joints = body.joints(aa_to_matrix(asked), torch.zeros(2, 10))
    weight, up = tilts.near(joints - joints[:, :1])
    mean = (weight.exp()[..., None] * up).sum(1)
    torch.testing.assert_close(mean, torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), atol=1e-3, rtol=0)


def test_people_of_one_picture_settle_their_camera_together(lifter: Lifter, body: BodyModel) -> None:
    """Four people seen by one camera each: together their elevations are nearer to the truth than alone."""
    keypoints, draw = keypoints_of(load_split("embedded")["validation"], 48, seed=11)
    order = draw.elevation_rad.argsort()
    hypotheses = lifter(keypoints[order])
    pictures = [f"{row // 4}.jpg" for row in range(48)]
    together = in_one_camera(hypotheses, pictures, body, real_poses(compose([])), lifter.config)
    true = draw.elevation_rad[order]

    def error(found: Hypotheses) -> torch.Tensor:
        return torch.rad2deg((found.elevation_rad[:, 0] - true).abs())

    assert error(together).mean() < 0.75 * error(hypotheses).mean()
    assert (together.weight.sum(1) - 1).abs().max() < 1e-5
    # Person and camera were turned as one: every joint stays where the camera sees it.
    wrists = [camera_joints(found, body)[:, :, 20].sort(1).values for found in (together, hypotheses)]
    torch.testing.assert_close(*wrists, atol=1e-3, rtol=0)
    alone = in_one_camera(hypotheses, [str(row) for row in range(48)], body, torch.zeros(1, 24, 3), lifter.config)
    assert alone is hypotheses


def test_people_and_cameras_against_the_truth(lifter: Lifter, body: BodyModel) -> None:
    """Poses of two clips that the pool does not have. Measured: see docs/how-to/your-own-domain.md."""
    keypoints, draw = keypoints_of(load_split("embedded")["validation"], PEOPLE, seed=11)
    hypotheses = lifter(keypoints)
    errors = measured(hypotheses, draw, body)
    assert hypotheses.reprojection[:, 0].mean() < 0.015
    assert errors.joints_mm.amin(1).mean() < 95
    assert errors.joints_mm[:, 0].mean() < 130
    assert errors.joints_mm[:, 0].mean() < errors.joints_mm.mean() - 15, "the score tells good from bad"
    assert (errors.elevation_deg[:, 0] < 25).float().mean() > 0.7
    assert errors.elevation_deg[:, 0].median() < 16
    assert (hypotheses.weight.sum(1) - 1).abs().max() < 1e-5


def test_a_picture_is_lifted_alike_whatever_it_is_lifted_with(lifter: Lifter) -> None:
    keypoints, _ = keypoints_of(load_split("embedded")["validation"], 3, seed=11)
    together, alone = lifter(keypoints), Hypotheses.cat([lifter(k[None]) for k in keypoints])
    torch.testing.assert_close(together.score[:, 0], alone.score[:, 0], atol=2e-2, rtol=1e-3)


def test_the_answer_is_a_camera_that_shows_the_keypoints(lifter: Lifter, body: BodyModel) -> None:
    keypoints, _ = keypoints_of(load_split("embedded")["validation"], 4, seed=12, noise_px=0.0)
    h = lifter(keypoints)
    joints = body.joints(aa_to_matrix(h.pose[:, 0]), h.betas[:, 0])
    rotation, _, _ = camera_rotation(h.elevation_rad[:, 0], h.roll_rad[:, 0])
    cam = (joints - joints[:, :1]) @ rotation.mT
    limbs = [SMPL24.index(name) for name in LIMBS12.joints]
    across = cam[..., :2] + h.shift_m[:, :1]
    points = h.focal[:, :1, None] * across / (cam[..., 2:] + h.distance_m[:, :1, None])
    gap = (points[:, limbs] - keypoints[..., :2]).norm(dim=-1).mean(1)
    torch.testing.assert_close(gap, h.reprojection[:, 0], atol=1e-4, rtol=0)
