"""The free body: SMPL's format and zero pose, symmetry, and linear blend skinning inverted exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from posegen.assets.making.free_body import (
    SIGN,
    fit_regressor,
    low_regressor,
    sample_people,
    smallest_rotation,
    to_zero_pose,
)
from posegen.assets.making.makehuman import Phenotype, smpl_joint_of_bone
from posegen.body.joint_sets import SMPL24, SMPL_PARENTS
from posegen.body.model import BodyModel, load_body, sample_betas
from posegen.body.rotations import aa_to_matrix


@pytest.fixture(scope="module")
def full(assets: Path) -> BodyModel:
    return load_body()


@pytest.fixture(scope="module")
def low(assets: Path) -> BodyModel:
    return load_body(resolution="low")


def test_sizes_are_smpls(full: BodyModel, low: BodyModel) -> None:
    assert full.v_template.shape == (13524, 3) and full.faces.shape == (27036, 3)
    assert 2500 < len(low.v_template) < 3500 and 5500 < len(low.faces) <= 6000
    for body in (full, low):
        assert body.shapedirs.shape[1:] == (3, 10)
        torch.testing.assert_close(body.weights.sum(1), torch.ones(len(body.weights)), atol=1e-5, rtol=0)
        torch.testing.assert_close(body.J_regressor.sum(1), torch.ones(24), atol=1e-4, rtol=0)
        assert body.weights.min() >= 0


def test_joints_are_mirror_images(full: BodyModel) -> None:
    betas = sample_betas(8, torch.Generator().manual_seed(0))
    joints = full.rest_joints(betas)
    mirrored = joints[:, list(SMPL24.mirror)] * torch.tensor(SIGN, dtype=torch.float32)
    torch.testing.assert_close(joints, mirrored, atol=1e-6, rtol=0)


def test_the_low_mesh_has_the_full_meshs_joints(full: BodyModel, low: BodyModel) -> None:
    betas = 2 * torch.randn(16, 10, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(low.rest_joints(betas), full.rest_joints(betas), atol=1e-6, rtol=0)


def test_the_zero_pose_is_smpls(full: BodyModel) -> None:
    joints = dict(zip(SMPL24.joints, full.rest_joints(torch.zeros(1, 10))[0], strict=True))
    assert joints["pelvis"].norm() < 1e-4
    for side, sign in (("left", 1), ("right", -1)):
        arm = torch.stack([joints[f"{side}_{part}"] for part in ("shoulder", "elbow", "wrist", "hand")])
        assert (arm[:, 1:] - arm[:1, 1:]).abs().max() < 2e-3  # straight, along x
        assert (sign * arm[:, 0].diff() > 0.05).all()
        assert joints[f"{side}_foot"][2] > joints[f"{side}_ankle"][2] + 0.08  # toes ahead
    assert joints["head"][1] > joints["neck"][1] > joints["spine3"][1] > joints["left_knee"][1]


def test_stature_and_the_first_beta(full: BodyModel) -> None:
    def stature(beta: float) -> float:
        betas = torch.zeros(1, 10)
        betas[0, 0] = beta
        y = full(torch.zeros(1, 24, 3), betas).vertices[0, :, 1]
        return float(y.max() - y.min())

    assert stature(0) == pytest.approx(1.74, abs=0.02)
    assert stature(1) - stature(0) == pytest.approx(0.107, abs=0.02)


def test_faces_look_outwards(full: BodyModel, low: BodyModel) -> None:
    for body in (full, low):
        a, b, c = body.v_template.double()[body.faces].unbind(1)
        volume = (a * torch.linalg.cross(b, c)).sum() / 6  # positive when counter-clockwise from outside
        assert 0.04 < float(volume) < 0.12  # m^3 of a person


def test_inverting_skinning_recovers_bent_arms(full: BodyModel) -> None:
    pose = torch.zeros(1, 24, 3)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        pose[0, SMPL24.index(f"{side}_shoulder")] = torch.tensor([0, 0, -0.7 * sign])
        pose[0, SMPL24.index(f"{side}_elbow")] = torch.tensor([0, -0.5 * sign, 0])
    posed = full(pose, torch.zeros(1, 10))
    vertices, joints = to_zero_pose(
        posed.vertices[0].double().numpy(), full.weights.double().numpy(), posed.joints[0].double().numpy()
    )
    rest = full.rest_joints(torch.zeros(1, 10))[0].numpy()
    assert np.abs(joints - rest).max() < 5e-3
    arm = full.weights[:, [16, 18, 20, 22]].sum(1).numpy() > 0.99
    assert np.abs(vertices[arm] - full.v_template.numpy()[arm]).max() < 5e-3


def test_smallest_rotation_takes_one_direction_to_the_other() -> None:
    g = np.random.default_rng(0)
    for _ in range(5):
        a, b = g.normal(size=(2, 3))
        r = smallest_rotation(a, b)
        np.testing.assert_allclose(r @ a / np.linalg.norm(a), b / np.linalg.norm(b), atol=1e-12)
        np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-12)
        # smallest: its axis is perpendicular to both
        np.testing.assert_allclose(r @ np.cross(a, b), np.cross(a, b), atol=1e-12)


def test_fitted_regressors_are_affine_and_find_a_known_one() -> None:
    g = np.random.default_rng(0)
    truth = np.zeros((1, 6))
    truth[0, [1, 4]] = 0.25, 0.75
    vertices = g.normal(size=(20, 6, 3))
    found = fit_regressor(vertices, truth @ vertices, [np.arange(6)])
    np.testing.assert_allclose(found, truth, atol=1e-6)


def test_low_regressor_is_exact_in_the_betas() -> None:
    g = np.random.default_rng(0)
    template, shapedirs = g.normal(size=(300, 3)), 0.1 * g.normal(size=(300, 3, 10))
    joints, directions = g.normal(size=(24, 3)), 0.1 * g.normal(size=(24, 3, 10))
    regressor = low_regressor(joints, directions, template, shapedirs)
    np.testing.assert_allclose(regressor @ template, joints, atol=1e-9)
    np.testing.assert_allclose(np.einsum("jv,vck->jck", regressor, shapedirs), directions, atol=1e-9)
    np.testing.assert_allclose(regressor.sum(1), 1, atol=1e-9)


def test_a_body_of_two_bones_bends_where_it_should(full: BodyModel) -> None:
    pose = torch.zeros(1, 24, 3)
    pose[0, SMPL24.index("left_elbow")] = torch.tensor([0, -np.pi / 2, 0])  # forearm to the front
    joints = full(pose, torch.zeros(1, 10)).joints[0]
    rest = full.rest_joints(torch.zeros(1, 10))[0]
    elbow, wrist = SMPL24.index("left_elbow"), SMPL24.index("left_wrist")
    length = (rest[wrist] - rest[elbow]).norm()
    torch.testing.assert_close(joints[wrist] - joints[elbow], torch.tensor([0, 0, length]), atol=2e-3, rtol=0)


def test_phenotype_words_are_the_corners_of_a_partition() -> None:
    words = Phenotype(gender=0.3, age=0.75, muscle=0.2, weight=0.9, height=0.4).words()
    assert words["male"] + words["female"] == pytest.approx(1)
    assert words["young"] + words["old"] == pytest.approx(1)
    assert sum(words[f"{size}weight"] for size in ("min", "average", "max")) == pytest.approx(1)
    assert words["maxweight"] == pytest.approx(0.8)
    assert words["minmuscle"] == pytest.approx(0.6)


def test_people_are_sampled_repeatably_within_limits() -> None:
    people = sample_people(30, np.random.default_rng(3))
    assert people == sample_people(30, np.random.default_rng(3))
    assert all(0 <= v <= 1 for p in people for v in (p.gender, p.muscle, p.weight, p.height, p.proportions))
    assert all(0.5 <= p.age <= 1 for p in people)


def test_bones_of_the_rig_fall_to_smpls_joints() -> None:
    assert smpl_joint_of_bone("lowerarm02.L") == SMPL24.index("left_elbow")
    assert smpl_joint_of_bone("finger1-2.R") == SMPL24.index("right_wrist")  # the thumb stays with the palm
    assert smpl_joint_of_bone("finger3-1.R") == SMPL24.index("right_hand")
    assert smpl_joint_of_bone("eye.L") is None
    assert len(SMPL_PARENTS) == 24


def test_sampled_betas_are_clamped() -> None:
    betas = sample_betas(4000, torch.Generator().manual_seed(0))
    assert float(betas[:, 0].abs().max()) == 1.5
    assert float(betas[:, 1:].abs().max()) == 2.0
    assert abs(float(betas.mean())) < 0.02


def test_global_orient_turns_about_the_pelvis(full: BodyModel) -> None:
    pose = torch.zeros(1, 24, 3)
    pose[0, 0] = torch.tensor([0.3, -1.0, 0.4])
    betas = torch.zeros(1, 10)
    pelvis = full.rest_joints(betas)[0, 0]
    expected = (full.v_template - pelvis) @ aa_to_matrix(pose[0, 0]).T + pelvis
    torch.testing.assert_close(full(pose, betas).vertices[0], expected, atol=1e-5, rtol=0)
