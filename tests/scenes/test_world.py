"""The world a generator learns in: real assets, and labels that fit the pictures."""

import numpy as np
import pytest
import torch

from posegen.arms.proposals import build_proposals
from posegen.body.joint_sets import SMPL_PARENTS
from posegen.body.model import load_body
from posegen.config import compose
from posegen.errors import CheckpointError
from posegen.scenes.world import build_world

pytestmark = pytest.mark.usefixtures("assets")


def test_labels_lie_on_the_person_in_the_picture():
    config = compose([])
    world = build_world(config)
    scene = build_proposals(config, "mocap", world.subjects)(torch.arange(6))
    _, alpha = world.renderer(scene)
    px = world.labels(scene)["joints2d_px"].round().long().clamp(0, world.size_px - 1)
    inside = torch.stack([a[0, p[:, 1], p[:, 0]] for a, p in zip(alpha, px, strict=True)])
    assert (inside > 0.5).float().mean() > 0.85  # hands and feet at the rim may miss by a pixel


def test_a_field_of_another_skeleton_is_refused(tmp_path):
    body = load_body(resolution="low")
    file = tmp_path / "taller.npz"
    kintree = np.stack([np.array(SMPL_PARENTS)] * 2)
    kintree[1] = np.arange(24)
    np.savez(
        file,
        v_template=body.v_template.numpy() * 1.2,
        shapedirs=body.shapedirs.numpy(),
        J_regressor=body.J_regressor.numpy(),
        weights=body.weights.numpy(),
        posedirs=np.zeros((len(body.v_template), 3, 207), np.float32),
        f=body.faces.numpy(),
        kintree_table=kintree,
    )
    with pytest.raises(CheckpointError, match="another skeleton"):
        build_world(compose([f"body.path={file}"]))
