"""Real poses and skeletons with a target, against worked cases."""

import pytest
import torch

from posegen.adversarial.reals import NOISE, Reals, TargetSkeletons, noisy
from posegen.body.joint_sets import COCO17, LIMBS12, SMPL24
from posegen.body.rotations import mirror_pose
from posegen.errors import DataError
from posegen.generator.discriminators import ProjectionDiscriminator, normalised
from posegen.target.anchors import Anchors


def anchors(poses, weight):
    zero = torch.zeros(len(poses))
    return Anchors(
        poses, torch.tensor(weight), torch.arange(len(poses)), zero, zero, zero + 4, zero + 0.1, zero + 0.1
    )  # fmt: skip


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_without_a_target_reals_are_the_pool_and_its_mirror_images():
    pool = torch.randn(5, 24, 3, generator=seeded())
    reals = Reals(pool)
    both = torch.cat([pool, mirror_pose(pool)])
    drawn = reals.poses(200, seeded())
    assert torch.equal(drawn, both[torch.randint(10, (200,), generator=seeded())])
    torch.testing.assert_close(reals.mean, both.mean(0))
    torch.testing.assert_close(reals.std, both.std(0, correction=0), atol=1e-5, rtol=1e-4)
    px, seen = reals.skeletons_of(7, seeded(), lambda n: torch.ones(n, 24, 2))
    assert seen is None and (px == 1).all() and reals.joints is None and reals.hidden(3, seeded()) is None


def test_a_share_of_the_poses_is_lifted_and_moments_are_those_of_the_mixture():
    pool = torch.zeros(3, 24, 3)
    lifted = torch.stack([torch.full((24, 3), 0.5), torch.full((24, 3), 1.0)])
    reals = Reals(pool, anchors(lifted, [0.25, 0.75]), share=0.4)
    drawn = reals.poses(4000, seeded())
    size = drawn.abs().amax((1, 2))
    assert (size > 0).float().mean().item() == pytest.approx(0.4, abs=0.03)
    assert (size[size > 0] == 1.0).float().mean().item() == pytest.approx(0.75, abs=0.04)
    torch.testing.assert_close(reals.mean, drawn.mean(0), atol=0.04, rtol=0)
    torch.testing.assert_close(reals.std, drawn.std(0), atol=0.04, rtol=0)


def test_keypoints_are_real_skeletons_with_what_they_see():
    keypoints = torch.rand(6, 17, 3, generator=seeded()) * 90 + 1
    keypoints[..., 2] = 0.9
    keypoints[2, COCO17.index("left_wrist")] = 0.0
    keypoints[5, :, 2] = 0.0  # nobody
    skeletons = TargetSkeletons(keypoints, COCO17)
    assert len(skeletons.points) == 5
    assert {SMPL24.joints[j] for j in skeletons.joints} == set(LIMBS12.joints)
    wrist = SMPL24.index("left_wrist")
    assert skeletons.seen[:, wrist].tolist() == [1, 1, 0, 1, 1]
    assert torch.equal(skeletons.points[0, wrist], keypoints[0, COCO17.index("left_wrist"), :2])
    reals = Reals(torch.zeros(2, 24, 3), anchors(torch.zeros(1, 24, 3), [1.0]), skeletons, 0.7)
    px, seen = reals.skeletons_of(2000, seeded(), lambda n: torch.full((n, 24, 2), -5.0))
    assert (px[:, wrist, 0] != -5).float().mean().item() == pytest.approx(0.7, abs=0.04)
    assert seen[:, wrist].mean().item() == pytest.approx(0.8, abs=0.04)
    with pytest.raises(DataError, match="nobody of the target"):
        TargetSkeletons(keypoints[5:], COCO17)


def test_the_discriminator_sees_neither_place_nor_size_nor_what_is_hidden():
    joints = [SMPL24.index(name) for name in LIMBS12.joints]
    d = ProjectionDiscriminator(joints=joints)
    px, seen = torch.rand(3, 24, 2, generator=seeded()) * 96, torch.ones(3, 24)
    assert torch.allclose(d(px, seen), d(px * 2.5 + 11, seen), atol=1e-4)
    other = px.clone()
    other[:, SMPL24.index("head")] += 40
    assert torch.equal(d(px, seen), d(other, seen)), "the head is not among its joints"
    wrist = SMPL24.index("left_wrist")
    other[:, wrist] += 30
    assert not torch.allclose(d(px, seen), d(other, seen))
    seen[:, wrist] = 0
    assert torch.equal(d(px, seen), d(other, seen))
    placed = normalised(px[:, joints], torch.ones(3, 12, 1))
    assert placed.mean(1).abs().max() < 1e-5 and placed.square().mean().item() == pytest.approx(1.0, abs=1e-4)


def test_noise_is_in_units_of_the_skeletons_spread():
    px = 50 + 10 * torch.randn(400, 24, 2, generator=seeded())
    assert noisy(px, None, seeded()) is px
    moved = noisy(px, torch.ones(400, 24), seeded()) - px
    assert moved.std().item() == pytest.approx(10 * NOISE, rel=0.05)
