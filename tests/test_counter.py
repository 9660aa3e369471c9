"""Counter-based random numbers: known finaliser, independence of the batch, uniformity."""

from __future__ import annotations

import pytest
import torch

from posegen.counter import _mix, _signed, hashed_bits, hashed_choice, hashed_normal, hashed_uniform


def splitmix64_finaliser(x: int) -> int:
    """The published finaliser on unsigned Python integers."""
    mask = (1 << 64) - 1
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


@pytest.mark.parametrize("value", [0, 1, 12345, (1 << 63) + 17, (1 << 64) - 1])
def test_mix_is_the_finaliser_of_splitmix64(value: int) -> None:
    mixed = int(_mix(torch.tensor(_signed(value))))
    assert mixed & ((1 << 64) - 1) == splitmix64_finaliser(value)


def test_numbers_depend_on_id_and_stream_only() -> None:
    ids = torch.tensor([5, 0, 7, 10**12, -3])
    together = hashed_uniform(ids, 3, 4)
    for i in range(len(ids)):
        assert torch.equal(hashed_uniform(ids[i : i + 1], 3, 4)[0], together[i])
    assert torch.equal(hashed_uniform(ids, 3, 9)[:, :4], together), "more numbers begin with the same ones"
    assert not torch.equal(hashed_uniform(ids, 4, 4), together)


def test_bits_are_not_negative_and_do_not_collide() -> None:
    bits = hashed_bits(torch.arange(20000), 1, 2)
    assert int(bits.min()) >= 0
    assert len(torch.unique(bits)) == bits.numel()


def test_uniform_and_normal_have_their_moments() -> None:
    ids = torch.arange(50000)
    u = hashed_uniform(ids, 2, 2)
    assert float(u.min()) >= 0 and float(u.max()) < 1
    assert torch.allclose(u.mean(0), torch.full((2,), 0.5), atol=0.005)
    assert torch.allclose(u.var(0), torch.full((2,), 1 / 12), atol=0.002)
    assert abs(float(torch.corrcoef(u.T)[0, 1])) < 0.02
    assert abs(float(torch.corrcoef(torch.stack([u[1:, 0], u[:-1, 0]]))[0, 1])) < 0.02, "neighbours are unrelated"
    x = hashed_normal(ids, 2, 2)
    assert torch.isfinite(x).all()
    assert torch.allclose(x.mean(0), torch.zeros(2), atol=0.02)
    assert torch.allclose(x.std(0), torch.ones(2), atol=0.02)


def test_choice_follows_the_weights() -> None:
    chosen = hashed_choice(torch.arange(20000), 5, torch.tensor([1.0, 0.0, 3.0]))
    shares = torch.bincount(chosen, minlength=3) / 20000
    assert torch.allclose(shares, torch.tensor([0.25, 0.0, 0.75]), atol=0.01)
