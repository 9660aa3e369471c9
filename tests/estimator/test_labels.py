"""What an HMR-style estimator is taught, and that the shipped weights were taught it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from posegen.body.joint_sets import LIMBS12, SMPL24
from posegen.body.rotations import random_rotation
from posegen.estimator import build
from posegen.estimator.labels import Labels, LossWeights, follow_crop, supervised_loss, weak_projection
from posegen.scene import Prediction


def random_labels(n: int) -> Labels:
    generator = torch.Generator().manual_seed(0)
    return Labels(
        random_rotation((n, 24), generator),
        torch.randn(n, 10, generator=generator),
        SMPL24.centred(torch.randn(n, 24, 3, generator=generator) * 0.3),
        torch.rand(n, 24, 2, generator=generator) - 0.5,
        torch.ones(n),
        torch.ones(n),
    )


def test_loss_is_zero_at_the_truth_and_each_term_is_as_defined():
    labels = random_labels(2)
    camera = torch.tensor([[0.9, 0.1, -0.2], [0.8, 0.0, 0.1]])
    labels = replace(labels, joints_crop=weak_projection(labels.joints, camera))
    truth = Prediction(labels.joints, "smpl24", labels.rotations, labels.betas, camera)
    assert supervised_loss(truth, labels, LossWeights()).item() == pytest.approx(0, abs=1e-6)
    joints = truth.joints.clone()
    joints[:, 1:, 2] += 0.1  # depth is not seen by the camera; the root stays
    moved = replace(truth, joints=joints)
    assert supervised_loss(moved, labels, LossWeights()).item() == pytest.approx(23 / 24, abs=1e-5)
    shaped = replace(truth, betas=truth.betas + 2)
    assert supervised_loss(shaped, labels, LossWeights()).item() == pytest.approx(0.04, abs=1e-5)
    turned = truth.rotations.clone()
    turned[:, 0] = turned[:, 0] @ torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    # a half turn is at Frobenius distance squared 8; the root counts six times among 24
    assert supervised_loss(replace(truth, rotations=turned), labels, LossWeights()).item() == pytest.approx(
        2.0, abs=1e-4
    )


def test_what_labels_do_not_know_is_not_taught():
    """Rotations and betas of a row made with another body count nothing; those of the other row count as before."""
    labels = random_labels(2)
    wrong = Prediction(labels.joints, "smpl24", labels.rotations.flip(1), labels.betas + 3)
    of_one = LossWeights(joints=0, rotations=0, betas=1)
    half = replace(labels, betas_known=torch.tensor([1.0, 0.0]))
    assert supervised_loss(wrong, half, of_one).item() == pytest.approx(4.5, abs=1e-4)
    nothing = replace(labels, rotations_known=torch.zeros(2), betas_known=torch.zeros(2))
    assert supervised_loss(wrong, nothing, LossWeights()).item() == pytest.approx(0, abs=1e-6)
    assert supervised_loss(wrong, labels, LossWeights()).item() > 1


def test_an_estimator_of_fewer_joints_is_taught_them_and_their_projection():
    """The camera sees the joints about the middle of the hips, as such a prediction gives them."""
    labels = random_labels(2)
    camera = torch.tensor([[0.9, 0.1, -0.2], [0.8, 0.0, 0.1]])
    limbs = LIMBS12.centred(labels.joints[:, LIMBS12.common(SMPL24)[1]])
    in_smpl, in_limbs = SMPL24.common(LIMBS12)
    crop = torch.full((2, 24, 2), float("nan"))  # joints that are not shared must not be looked at
    crop[:, in_smpl] = weak_projection(limbs, camera)[:, in_limbs]
    labels = replace(labels, joints_crop=crop)
    truth = Prediction(limbs, "limbs12", camera=camera)
    assert supervised_loss(truth, labels, LossWeights()).item() == pytest.approx(0, abs=1e-6)
    shifted = replace(truth, camera=camera + torch.tensor([0.0, 0.2, 0.0]))
    assert supervised_loss(shifted, labels, LossWeights()).item() == pytest.approx(0.5 * 0.2 * 0.85, abs=1e-5)


def test_projected_labels_follow_the_crop():
    labels = random_labels(1)
    moved = follow_crop(labels, torch.tensor([1.5]), torch.tensor([[0.1, -0.2]]))
    assert torch.allclose(moved.joints_crop, (labels.joints_crop - torch.tensor([0.2, -0.4])) * 1.5)
    assert torch.equal(moved.joints, labels.joints)


@pytest.mark.usefixtures("assets")
def test_shipped_weights_know_the_source_and_little_else():
    """Other bodies, cameras and backgrounds of the source's kind; random weights are at several hundred millimetres."""
    from posegen.benchmarks.embedded.stand_ins import build_embedded
    from posegen.benchmarks.measure.evaluate import evaluate

    estimator = build("hmr_small")
    error = {name: evaluate(estimator, build_embedded(name, images=96)).metrics for name in ("source-like", "ski-like")}
    assert error["source-like"]["mpjpe_mm"] < 75
    assert error["ski-like"]["mpjpe_mm"] > 2 * error["source-like"]["mpjpe_mm"]  # blind spots to find
