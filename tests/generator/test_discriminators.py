import pytest
import torch

from posegen.generator.discriminators import (
    PoseDiscriminator,
    ProjectionDiscriminator,
    ReplayPool,
    lsgan_discriminator_loss,
    lsgan_generator_loss,
)


def test_lsgan_losses_at_worked_values():
    real, fake = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
    assert lsgan_discriminator_loss(real, fake).item() == pytest.approx(0.5 * (0.5 + 0.25))
    assert lsgan_generator_loss(fake).item() == pytest.approx(0.125)


def test_global_orient_is_no_property_of_a_pose():
    d = PoseDiscriminator()
    pose = torch.randn(4, 24, 3) * 0.3
    turned = pose.clone()
    turned[:, 0] += 1.0
    assert torch.equal(d(pose), d(turned))
    bent = pose.clone()
    bent[:, 4] += 0.5  # left knee: the paths of the left leg and the whole body see it, the arms' do not
    names = list(d.paths)
    changed = (d(bent) != d(pose)).any(0)
    assert {n for n, c in zip(names, changed.tolist(), strict=True) if c} == {"left_leg", "body"}


def test_projection_is_scored_without_position_and_scale():
    d = ProjectionDiscriminator()
    px = torch.rand(3, 24, 2) * 96
    assert torch.allclose(d(px), d(px * 2.5 + 11), atol=1e-4)


def test_a_discriminator_learns_to_tell_bent_from_straight():
    torch.manual_seed(0)
    d = PoseDiscriminator()
    optimiser = torch.optim.Adam(d.parameters(), 1e-3)
    for _ in range(60):
        real, fake = torch.randn(64, 24, 3) * 0.1, torch.randn(64, 24, 3) * 0.6
        loss = lsgan_discriminator_loss(d(real), d(fake))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert d(torch.randn(64, 24, 3) * 0.1).mean() > d(torch.randn(64, 24, 3) * 0.6).mean() + 0.5


def test_replay_pool_fills_then_swaps_half_and_is_repeatable():
    def play():
        generator = torch.Generator().manual_seed(0)
        pool = ReplayPool(8, (1,))
        outs = [pool.exchange(torch.full((4, 1), float(i)), generator) for i in range(6)]
        return pool.items, outs

    items, outs = play()
    assert torch.equal(outs[0], torch.zeros(4, 1))
    assert torch.equal(outs[1], torch.ones(4, 1))
    for i in range(2, 6):
        assert (outs[i] == i).sum() == 2  # half fresh ...
        assert (outs[i] < i).sum() == 2  # ... half from the past
    assert len(items) == 8
    assert torch.equal(play()[0], items)
