"""Relative Adam: Adam's direction times the size of each output channel at the start."""

import pytest
import torch
from torch import nn

from posegen.finetune.relative_adam import RelativeAdam, bias_sizes, channel_sizes, sizes_of


def alone(parameter, **settings):
    return RelativeAdam([("weight", parameter)], **settings)


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
    moved = steps(ours, gradients((4, 3)), alone(ours, lr=0.01)) - start
    plain = steps(adam, gradients((4, 3)), torch.optim.Adam([adam], lr=0.01)) - start
    assert torch.allclose(moved, size * plain, atol=1e-7)


def test_a_scaled_channel_is_moved_by_as_much_more():
    """Channels scaled by s have gradients scaled by 1/s: their function, and so its training, stays the same."""
    start = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor([[1.0], [10.0], [0.1], [1e-2]])
    a, b = nn.Parameter(start.clone()), nn.Parameter(start * scale)
    plain = steps(a, gradients((4, 3)), alone(a, lr=0.01, eps=1e-30, weight_decay=0.1))
    scaled = steps(b, [g / scale for g in gradients((4, 3))], alone(b, lr=0.01, eps=1e-30, weight_decay=0.1))
    assert torch.allclose(scaled / scale, plain, rtol=1e-4)
    adam = nn.Parameter(start * scale)
    absolute = steps(adam, [g / scale for g in gradients((4, 3))], torch.optim.Adam([adam], lr=0.01, eps=1e-30))
    assert ((absolute / scale - plain).abs() > 1).any()  # one absolute rate destroys the small channel


def test_a_bias_moves_its_output_as_far_as_the_weights_do_with_inputs_of_size_one():
    weight = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    assert bias_sizes(weight).tolist() == pytest.approx([5.0, 0.5])
    layer = nn.Linear(2, 2)
    start = torch.tensor([0.001, -70.0])  # its own value plays no part
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(start)
    layer(torch.ones(1, 2)).sum().backward()
    RelativeAdam(layer.named_parameters(), lr=0.01).step()
    assert torch.allclose(start - layer.bias.detach(), torch.tensor([0.05, 0.005]), atol=1e-5)


def test_a_layer_with_scaled_channels_is_trained_to_the_same_function():
    """With BatchNorm folded into it: its weights and biases have scales that are undone after it."""
    scale = torch.tensor([1.0, 10.0, 0.1, 1e-2])
    inputs = torch.randn(32, 3, generator=torch.Generator().manual_seed(2))
    wanted = torch.randn(32, 4, generator=torch.Generator().manual_seed(3))

    def trained(scale):
        torch.manual_seed(0)
        layer = nn.Linear(3, 4)
        with torch.no_grad():
            layer.weight.mul_(scale[:, None])
            layer.bias.mul_(scale)
        optimiser = RelativeAdam(layer.named_parameters(), lr=0.01, eps=1e-30)
        for _ in range(20):
            optimiser.zero_grad()
            (layer(inputs) / scale - wanted).square().mean().backward()
            optimiser.step()
        return (layer(inputs) / scale).detach()

    before = trained(torch.ones(4))
    assert (before - wanted).square().mean() < 2
    assert torch.allclose(trained(scale), before, atol=1e-4)


def test_only_a_bias_beside_its_weight_is_sized_by_it():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimiser = RelativeAdam(network.named_parameters(), lr=0.01)
    network(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))).square().mean().backward()
    sizes = {name: channel_sizes(value) for name, value in network.named_parameters()}
    sizes["0.bias"] = bias_sizes(network[0].weight.detach())
    optimiser.step()
    for name, value in network.named_parameters():
        assert torch.equal(optimiser.state[value]["size"], sizes[name]), name
    zeros = {"weight": torch.zeros(2, 9), "bias": torch.tensor([3.0, -4.0])}  # as a head may begin: they have no size
    assert sizes_of(zeros)["bias"].item() == pytest.approx(12.5**0.5)
    nameless = nn.Parameter(torch.ones(2, 2))
    with pytest.raises(TypeError, match="named"):
        RelativeAdam([nameless])


def test_size_is_that_of_the_start_and_travels_with_the_state(tmp_path):
    whole = nn.Parameter(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    first, rest = gradients((4, 3), 6)[:3], gradients((4, 3), 6)[3:]
    optimiser = alone(whole, lr=0.3)
    halfway = steps(whole, first, optimiser)
    torch.save(optimiser.state_dict(), tmp_path / "o.pt")
    resumed = nn.Parameter(halfway.clone())
    again = alone(resumed, lr=0.3)
    again.load_state_dict(torch.load(tmp_path / "o.pt", weights_only=True))
    assert torch.equal(steps(resumed, rest, again), steps(whole, rest, optimiser))


def test_decay_is_decoupled():
    parameter = nn.Parameter(torch.full((2, 2), 2.0))
    optimiser = alone(parameter, lr=0.1, weight_decay=0.5)
    parameter.grad = torch.zeros(2, 2)
    optimiser.step()
    assert parameter.detach().flatten().tolist() == pytest.approx([2.0 * 0.95] * 4)
