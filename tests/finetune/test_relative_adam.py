"""Relative Adam: Adam's direction times the size of each output channel at the start."""

import pytest
import torch
from torch import nn

from posegen.finetune.relative_adam import RelativeAdam, channel_sizes


def steps(parameter, gradients, optimiser):
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimiser.step()
    return parameter.detach().clone()


def gradients(shape, n=5):
    g = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=g) for _ in range(n)]


def test_sizes_are_of_output_channels():
    weight = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    assert torch.allclose(channel_sizes(weight), torch.tensor([[12.5**0.5], [0.125**0.5]]))
    assert channel_sizes(torch.ones(4, 2, 3, 3)).shape == (4, 1, 1, 1)
    assert channel_sizes(torch.tensor([3.0, -4.0])).item() == pytest.approx(12.5**0.5)  # a bias is one channel
    assert channel_sizes(torch.zeros(3, 2)).tolist() == [[1.0]] * 3  # no size of its own: Adam's steps
    assert channel_sizes(torch.tensor([[1.0, 1.0], [0.0, 0.0]])).flatten().tolist() == pytest.approx([1, 1e-4])


def test_it_is_adam_times_the_root_mean_square():
    start = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    size = start.square().mean(1, keepdim=True).sqrt()
    ours, adam = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    moved = steps(ours, gradients((4, 3)), RelativeAdam([ours], lr=0.01)) - start
    plain = steps(adam, gradients((4, 3)), torch.optim.Adam([adam], lr=0.01)) - start
    assert torch.allclose(moved, size * plain, atol=1e-7)


def test_a_scaled_channel_is_moved_by_as_much_more():
    """Channels scaled by s have gradients scaled by 1/s: their function, and so its training, stays the same."""
    start = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor([[1.0], [10.0], [0.1], [1e-2]])
    a, b = nn.Parameter(start.clone()), nn.Parameter(start * scale)
    plain = steps(a, gradients((4, 3)), RelativeAdam([a], lr=0.01, eps=1e-30, weight_decay=0.1))
    scaled = steps(b, [g / scale for g in gradients((4, 3))], RelativeAdam([b], lr=0.01, eps=1e-30, weight_decay=0.1))
    assert torch.allclose(scaled / scale, plain, rtol=1e-4)
    adam = nn.Parameter(start * scale)
    absolute = steps(adam, [g / scale for g in gradients((4, 3))], torch.optim.Adam([adam], lr=0.01, eps=1e-30))
    assert ((absolute / scale - plain).abs() > 1).any()  # one absolute rate destroys the small channel


def test_size_is_that_of_the_start_and_travels_with_the_state(tmp_path):
    whole = nn.Parameter(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    first, rest = gradients((4, 3), 6)[:3], gradients((4, 3), 6)[3:]
    optimiser = RelativeAdam([whole], lr=0.3)
    halfway = steps(whole, first, optimiser)
    torch.save(optimiser.state_dict(), tmp_path / "o.pt")
    resumed = nn.Parameter(halfway.clone())
    again = RelativeAdam([resumed], lr=0.3)
    again.load_state_dict(torch.load(tmp_path / "o.pt", weights_only=True))
    assert torch.equal(steps(resumed, rest, again), steps(whole, rest, optimiser))


def test_decay_is_decoupled():
    parameter = nn.Parameter(torch.full((2, 2), 2.0))
    optimiser = RelativeAdam([parameter], lr=0.1, weight_decay=0.5)
    parameter.grad = torch.zeros(2, 2)
    optimiser.step()
    assert parameter.detach().flatten().tolist() == pytest.approx([2.0 * 0.95] * 4)
