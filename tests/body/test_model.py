"""BodyModel against smplx on the same arrays, kinematics without vertices, and gradients."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import smplx
import torch
from smpl_like import arrays
from smplx.lbs import lbs

from posegen.assets import asset_path
from posegen.body.model import BodyModel, load_body
from posegen.body.rotations import aa_to_matrix


@pytest.fixture
def toy() -> BodyModel:
    data = arrays()
    return BodyModel(
        data["v_template"], data["shapedirs"], data["J_regressor"], data["weights"], data["f"], data["posedirs"]
    )


def random_pose(batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return (
        0.6 * torch.randn(batch, 24, 3, generator=g),
        torch.randn(batch, 10, generator=g),
        torch.randn(batch, 3, generator=g),
    )


def test_equal_to_smplx_with_pose_blend_shapes(toy: BodyModel) -> None:
    pose, betas, transl = random_pose(3)
    vertices, joints = lbs(
        betas, pose.flatten(1), toy.v_template, toy.shapedirs, toy.posedirs, toy.J_regressor, toy.parents, toy.weights
    )
    out = toy(pose, betas, transl)
    torch.testing.assert_close(out.vertices, vertices + transl[:, None], atol=2e-5, rtol=0)
    torch.testing.assert_close(out.joints, joints + transl[:, None], atol=2e-5, rtol=0)


def test_joints_without_vertices_are_the_same(toy: BodyModel) -> None:
    pose, betas, transl = random_pose(3)
    rotations = aa_to_matrix(pose)
    torch.testing.assert_close(toy.joints(rotations, betas, transl), toy(pose, betas, transl).joints)
    torch.testing.assert_close(toy(rotations, betas, transl).vertices, toy(pose, betas, transl).vertices)


def test_gradients_reach_pose_betas_and_translation(toy: BodyModel) -> None:
    toy = toy.double()
    pose, betas, transl = (t.double().requires_grad_() for t in random_pose(1))

    def some(pose: torch.Tensor, betas: torch.Tensor, transl: torch.Tensor) -> torch.Tensor:
        out = toy(pose, betas, transl)
        return torch.cat([out.vertices[:, :4].flatten(), out.joints[:, 20:].flatten()])

    assert torch.autograd.gradcheck(some, (pose, betas, transl), atol=1e-6, fast_mode=True)


def test_the_free_body_loads_into_smplx(assets: Path) -> None:
    with np.load(asset_path("body_low")) as archive:
        data = SimpleNamespace(**{key: archive[key] for key in archive.files})
    smpl = smplx.SMPL("", data_struct=data, vertex_ids=defaultdict(int), create_transl=False)
    body = load_body(resolution="low")
    pose, betas, _ = random_pose(2)
    theirs = smpl(betas=betas, global_orient=pose[:, 0], body_pose=pose[:, 1:].flatten(1))
    ours = body(pose, betas)
    torch.testing.assert_close(ours.vertices, theirs.vertices, atol=2e-5, rtol=0)
    torch.testing.assert_close(ours.joints, theirs.joints[:, :24], atol=2e-5, rtol=0)


def test_state_dict_round_trip(toy: BodyModel) -> None:
    other = BodyModel(*(0 * arrays()[k] for k in ("v_template", "shapedirs", "J_regressor", "weights")),
                      arrays()["f"], arrays()["posedirs"])  # fmt: skip
    other.load_state_dict(toy.state_dict())
    pose, betas, _ = random_pose(1)
    torch.testing.assert_close(other(pose, betas).vertices, toy(pose, betas).vertices)
