"""The source and the pre-training: what is seen, what is held out, that the loop learns, that the weights are good."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from stick_body import stick_body

from posegen.body.cameras import viewing_angles
from posegen.body.joint_sets import SMPL24
from posegen.body.mocap import Clip, load_clips
from posegen.body.model import load_body
from posegen.body.rotations import aa_to_matrix, random_rotation
from posegen.estimator import build
from posegen.estimator.labels import Labels, LossWeights, follow_crop, supervised_loss, weak_projection
from posegen.estimator.pretrain import PretrainConfig, mpjpe_mm, pretrain
from posegen.estimator.source import (
    SourceConfig,
    SourceRows,
    heading_rad,
    labels_of,
    render_source,
    sample_scenes,
    split_frames,
)
from posegen.scene import Prediction


def test_heading():
    turn = torch.tensor([[0.0, 0.5, 0.0], [0.3, 0.0, 0.0], [0.0, 2.0, 0.0]])
    assert torch.allclose(heading_rad(aa_to_matrix(turn)), torch.tensor([0.5, 0.0, 2.0]), atol=1e-6)


def test_held_out_frames_are_never_trained_on():
    clips = [Clip("a", torch.randn(20, 24, 3), torch.zeros(20, 3), 30.0)]
    train, held_out = (split_frames(clips, 0.25, evaluation)[0] for evaluation in (False, True))
    assert (len(train), len(held_out)) == (15, 5)
    assert torch.equal(torch.cat([train, held_out]), clips[0].pose)


@pytest.mark.usefixtures("assets")
def test_scenes_are_level_and_frontal_and_labels_match_the_camera():
    config = SourceConfig(joint_noise_rad=0.0)
    body = load_body(resolution="low")
    scene = sample_scenes(64, load_clips(config.clips), body, config, torch.Generator().manual_seed(0), False)
    heading = heading_rad(aa_to_matrix(scene.pose[:, 0]))
    azimuth, elevation = viewing_angles(scene.camera.R)
    off = torch.remainder(azimuth - heading + torch.pi, 2 * torch.pi) - torch.pi
    assert off.abs().max().rad2deg() < 20.01
    assert off.abs().max().rad2deg() > 15
    assert elevation.abs().max().rad2deg() < 5.01
    labels = labels_of(scene, body)
    # the body faces the camera: its root's z axis points against the viewing direction
    assert (labels.rotations[:, 0, 2, 2] < -0.5).all()
    joints = SMPL24.centred(body.joints(labels.rotations, labels.betas))
    assert torch.allclose(joints, labels.joints, atol=1e-5)
    assert (labels.joints_crop.abs() < 1).all()
    assert (labels.joints_crop.amax((1, 2)) > 0.7).all()


@pytest.mark.usefixtures("assets")
def test_rendered_rows_are_deterministic_and_show_the_person():
    config = SourceConfig(image_size=48)
    a, b = (render_source(4, config) for _ in range(2))
    assert a.images.shape == (4, 3, 48, 48)
    assert torch.equal(a.images, b.images)
    assert not torch.equal(a.images, render_source(4, config, evaluation=True).images)
    assert not torch.equal(a.images, render_source(4, replace(config, seed=1)).images)


def random_labels(n: int) -> Labels:
    generator = torch.Generator().manual_seed(0)
    return Labels(
        random_rotation((n, 24), generator),
        torch.randn(n, 10, generator=generator),
        torch.randn(n, 24, 3, generator=generator) * 0.3,
        torch.rand(n, 24, 2, generator=generator) - 0.5,
    )


def test_loss_is_zero_at_the_truth_and_each_term_is_as_defined():
    labels = random_labels(2)
    camera = torch.tensor([[0.9, 0.1, -0.2], [0.8, 0.0, 0.1]])
    labels = replace(labels, joints_crop=weak_projection(labels.joints, camera))
    truth = Prediction(labels.joints, "smpl24", labels.rotations, labels.betas, camera)
    assert supervised_loss(truth, labels, LossWeights()).item() == pytest.approx(0, abs=1e-6)
    moved = replace(truth, joints=truth.joints + torch.tensor([0.0, 0.0, 0.1]))  # depth is not seen by the camera
    assert supervised_loss(moved, labels, LossWeights()).item() == pytest.approx(1.0, abs=1e-5)
    shaped = replace(truth, betas=truth.betas + 2)
    assert supervised_loss(shaped, labels, LossWeights()).item() == pytest.approx(0.04, abs=1e-5)
    turned = truth.rotations.clone()
    turned[:, 0] = turned[:, 0] @ torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    # a half turn is at Frobenius distance squared 8; the root counts six times among 24
    assert supervised_loss(replace(truth, rotations=turned), labels, LossWeights()).item() == pytest.approx(
        2.0, abs=1e-4
    )


def test_projected_labels_follow_the_crop():
    labels = random_labels(1)
    moved = follow_crop(labels, torch.tensor([1.5]), torch.tensor([[0.1, -0.2]]))
    assert torch.allclose(moved.joints_crop, (labels.joints_crop - torch.tensor([0.2, -0.4])) * 1.5)
    assert torch.equal(moved.joints, labels.joints)


def test_the_loop_learns_reports_and_averages():
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    estimator = build("hmr_small", pretrained=False, body=stick_body())
    one = random_labels(1)
    with torch.no_grad():
        joints = estimator.skeleton(one.rotations, one.betas)
    rows = SourceRows(images, replace(one, joints=joints)[torch.zeros(8, dtype=torch.long)])
    before = mpjpe_mm(estimator, rows)
    seen = []
    config = PretrainConfig(steps=25, batch=8, warmup=5, average=0.8)
    pretrain(estimator, rows, config, progress=lambda *state: seen.append(state))
    assert [s[:2] for s in seen] == [(i, 25) for i in range(1, 26)]
    assert seen[-1][2] < seen[0][2]
    assert mpjpe_mm(estimator, rows) < 0.7 * before
    assert not estimator.training


@pytest.mark.usefixtures("assets")
def test_shipped_weights_know_the_source():
    """Frames that no training saw; a network with random weights is at several hundred millimetres."""
    rows = render_source(96, SourceConfig(), evaluation=True)
    assert mpjpe_mm(build("hmr_small"), rows) < 75
