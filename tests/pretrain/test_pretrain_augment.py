"""Labels follow what is done to the pictures: on rendered people, and on points that can be found again."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24
from posegen.body.rotations import random_rotation
from posegen.body.skeleton import free_skeleton
from posegen.estimator.labels import Labels
from posegen.pretrain.augment import Augment, ViewChange

SIZE = 65


def random_labels(n: int, skeleton=None) -> Labels:
    generator = torch.Generator().manual_seed(0)
    rotations, betas = random_rotation((n, 24), generator), torch.randn(n, 10, generator=generator)
    joints = torch.randn(n, 24, 3, generator=generator) if skeleton is None else skeleton(rotations, betas)
    placed = torch.rand(n, 24, 2, generator=generator) - 0.5
    return Labels(rotations, betas, joints, placed, torch.ones(n), torch.ones(n))


def dots(points: Tensor) -> Tensor:
    """Pictures (B,3,S,S), each with one soft dot at points (B,2) in crop units."""
    place = (torch.arange(SIZE) + 0.5) / SIZE * 2 - 1
    u, v = (place - points[:, :1])[:, None], (place - points[:, 1:])[:, :, None]
    return torch.exp(-(u * u + v * v) / (2 * 0.06**2))[:, None].repeat(1, 3, 1, 1)


def found(images: Tensor) -> Tensor:
    """Where the dots are."""
    place = (torch.arange(SIZE) + 0.5) / SIZE * 2 - 1
    mass = images[:, 0]
    total = mass.sum((1, 2))
    return torch.stack([(mass.sum(1) * place).sum(1) / total, (mass.sum(2) * place).sum(1) / total], 1)


def test_projected_joints_go_where_their_pixels_go() -> None:
    n = 40
    view = Augment().draw(n, torch.Generator().manual_seed(1))
    assert 5 < int(view.mirrored.sum()) < 35
    labels = random_labels(n)
    labels = replace(labels, joints_crop=labels.joints_crop * 0.8)
    moved = view.labels(labels)
    for joint in (SMPL24.index("left_wrist"), SMPL24.index("head")):
        seen = found(view.pictures(dots(labels.joints_crop[:, joint])))
        there = torch.tensor(SMPL24.mirror)[joint]
        expected = torch.where(view.mirrored[:, None], moved.joints_crop[:, there], moved.joints_crop[:, joint])
        assert (seen - expected).abs().max() < 0.01


@pytest.mark.usefixtures("assets")
def test_rotations_still_give_the_joints() -> None:
    """A body posed by the new rotations has the new joints: mirrored and turned as one."""
    skeleton = free_skeleton()
    view = Augment().draw(16, torch.Generator().manual_seed(2))
    labels = view.labels(random_labels(16, skeleton))
    off = (skeleton(labels.rotations, labels.betas) - labels.joints).norm(dim=-1)
    assert off[~view.mirrored].max() < 1e-5
    assert off.max() < 0.012  # a body is not quite symmetric


def test_a_quarter_turn_and_a_mirror_by_hand() -> None:
    labels = random_labels(2)
    turned = ViewChange(
        torch.tensor([math.pi / 2, 0.0]), torch.tensor([1.0, 2.0]), torch.tensor([[0.0, 0.0], [0.1, 0.0]]),
        torch.tensor([False, True]),
    ).labels(labels)  # fmt: skip
    x, y, z = labels.joints[0].unbind(-1)
    assert torch.allclose(turned.joints[0], torch.stack([-y, x, z], -1), atol=1e-6)  # what was right is now below
    left, right = SMPL24.index("left_elbow"), SMPL24.index("right_elbow")
    assert torch.allclose(turned.joints[1, left], labels.joints[1, right] * torch.tensor([-1.0, 1.0, 1.0]))
    expected = labels.joints_crop[1, right] * torch.tensor([-2.0, 2.0]) + torch.tensor([0.1, 0.0])
    assert torch.allclose(turned.joints_crop[1, left], expected)
    assert torch.allclose(torch.linalg.det(turned.rotations), torch.ones(2, 24), atol=1e-5)


def test_looks_change_and_stay_pictures() -> None:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(24, 3, 32, 32, generator=generator)
    labels = random_labels(24)
    once, _ = Augment()(images, labels, torch.Generator().manual_seed(4))
    again, _ = Augment()(images, labels, torch.Generator().manual_seed(4))
    assert torch.equal(once, again)
    assert once.shape == images.shape and float(once.min()) >= 0 and float(once.max()) <= 1
    assert ((once - images).abs().mean((1, 2, 3)) > 0.02).all()
    still = Augment(0, 0, 0, 0, 0, (0.1, 0.2), 0, 0, 0, 0, 0, 0, 0)
    same, unmoved = still(images, labels, generator)
    assert torch.allclose(same, images, atol=1e-5) and torch.allclose(unmoved.joints_crop, labels.joints_crop)


def test_covers_hide_a_part_of_their_share() -> None:
    images = torch.arange(20.0).div(20)[:, None, None, None].expand(20, 3, 40, 40).contiguous()
    only = Augment(0, 0, 0, 0, 1.0, (0.2, 0.3), 0, 0, 0, 0, 0, 0, 0)
    covered, _ = only(images, random_labels(20), torch.Generator().manual_seed(5))
    share = ((covered - images).abs() > 1e-4).float().mean((1, 2, 3))
    assert (share > 0.005).all() and (share < 0.1).all()  # one that reaches out of the picture hides less
