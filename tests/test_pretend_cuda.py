"""The pretended device refuses what a GPU refuses, and changes no number."""

import copy

import pytest
import torch
import torch.nn.functional as F

from pretend_cuda import DeviceMismatch, PretendCuda


def test_tensors_say_where_they_are_and_hand_it_on(pretend):
    a = torch.ones(2, 3, device="cuda")
    b = torch.ones(2, 3).to("cuda")
    c = (a + b)[0].view(3, 1).expand(3, 2).new_zeros(4)
    assert a.device == b.device == c.device == torch.device("cuda", 0) and a.is_cuda
    assert torch.zeros_like(a).is_cuda and not torch.ones(2).is_cuda and not a.cpu().is_cuda
    assert torch.empty(0).to(a).is_cuda and torch.stack([a, b]).is_cuda and a.double().is_cuda
    assert all(part.is_cuda for part in a.unbind(0)) and a.max(1).values.is_cuda
    assert F.interpolate(a[None, None], (4, 4)).is_cuda
    assert pretend.moves == 2


@pytest.mark.parametrize(
    "mix",
    [
        lambda a, b: a + b,
        lambda a, b: torch.cat([a, b]),
        lambda a, b: torch.where(b > 0, a, a),
        lambda a, b: b[a.long()],
        lambda a, b: a.index_add(0, b.long(), a),
        lambda a, b: F.linear(a, b[None]),
        lambda a, b: a.__setitem__(torch.tensor([0, 1]), b),
        lambda a, b: torch.stack([b, a]),
        lambda a, b: a.sum() * b,
    ],
)
def test_operands_on_two_devices_are_refused(pretend, mix):
    a, b = torch.ones(2, device="cuda"), torch.ones(2)
    with pytest.raises(DeviceMismatch):
        mix(a, b)


def test_what_torch_allows_is_allowed(pretend):
    a, b = torch.arange(4.0, device="cuda"), torch.ones(4)
    assert (a * torch.tensor(2.0)).is_cuda  # a number that happens to be a tensor
    assert a[torch.tensor([1, 2])].tolist() == [1.0, 2.0]  # CPU indices
    a.copy_(b)
    a[1:3] = b[:2]
    assert a.tolist() == [1.0] * 4 and a.is_cuda
    with pytest.raises(TypeError, match=r"cpu\(\)"):
        a.numpy()
    assert a.cpu().numpy().sum() == 4


def test_a_cpu_generator_draws_no_numbers_on_the_gpu(pretend):
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(DeviceMismatch, match="generator"):
        torch.rand(2, generator=generator, device="cuda")
    assert torch.rand(2, generator=generator).to("cuda").is_cuda


def test_modules_gradients_and_optimisers(pretend):
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    with pytest.raises(DeviceMismatch):
        module(torch.ones(5, 3, device="cuda"))
    module.to("cuda")
    assert all(t.is_cuda for t in [*module.parameters(), *module.buffers(), *module.state_dict().values()])
    assert all(p.is_cuda for p in copy.deepcopy(module).parameters())
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)
    before = module[0].weight.detach().clone()
    module(torch.randn(5, 3).to("cuda")).square().mean().backward()
    assert module[0].weight.grad.is_cuda
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimiser.step()
    assert not torch.equal(before, module[0].weight)
    x = torch.randn(5, 3).to("cuda").requires_grad_()
    (gradient,) = torch.autograd.grad(module(x).sum(), x)
    assert gradient.is_cuda
    with pytest.raises(DeviceMismatch):
        module(torch.ones(5, 3))


def test_it_ends():
    with PretendCuda():
        made = torch.ones(2, device="cuda")
        assert made.is_cuda
    assert not made.is_cuda
    assert torch.nn.Parameter(torch.ones(1)).requires_grad
