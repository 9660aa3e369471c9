"""Depthwise convolutions of our own: torch's numbers and derivatives, whatever the shape, the layout, the threads."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import wraps

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.data import astronaut
from stick_body import stick_body
from torch import Tensor, nn

from posegen import compiled
from posegen.compiled import NativeUnavailable
from posegen.estimator import build, depthwise, tflite_module
from posegen.estimator.depthwise import Pads, depthwise_conv2d, has_kernel_for

RELU, RELU6 = (0.0, math.nan), (0.0, 6.0)
ACTIVATIONS = {None: lambda x: x, RELU: F.relu, RELU6: F.relu6}


def with_kernel(test: Callable[..., None]) -> Callable[..., None]:
    """Without a compiler there is nothing to see."""

    @wraps(test)
    def seen(*args, **kwargs):
        if depthwise.kernel() is not None:
            test(*args, **kwargs)

    return seen


def tensors(shape: tuple[int, int, int, int], kernel: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, filters and biases that are trained."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (shape, (shape[1], 1, *kernel), (shape[1],))
    x, weight, bias = (torch.randn(size, generator=generator).requires_grad_() for size in sizes)
    return x, weight, bias


def by_torch(
    given: list[Tensor], stride: tuple[int, int], pads: Pads, bounds: tuple[float, float] | None, grad: Tensor
) -> list[Tensor]:
    """Outputs and derivatives in float64."""
    x, weight, bias = (value.detach().double().requires_grad_() for value in given)
    padded = F.pad(x, (*pads[1], *pads[0]))
    out = ACTIVATIONS[bounds](F.conv2d(padded, weight, bias, stride, groups=x.shape[1]))
    return [out.detach(), *torch.autograd.grad(out, (x, weight, bias), grad.double())]


def agree(found: list[Tensor], expected: list[Tensor], rel: float) -> bool:
    return all(a.shape == b.shape and (a - b).norm() <= rel * b.norm() for a, b in zip(found, expected, strict=True))


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(0, 3),
    channels=st.sampled_from([1, 3, 8, 15, 16, 17, 24, 33]),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    more=st.tuples(st.integers(0, 8), st.integers(0, 8)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * 2),
    bounds=st.sampled_from(list(ACTIVATIONS)),
    channels_last=st.booleans(),
)
@with_kernel
def test_outputs_and_derivatives_are_torchs(batch, channels, kernel, more, stride, pads, bounds, channels_last):
    given = tensors((batch, channels, kernel[0] + more[0], kernel[1] + more[1]), kernel)
    x, weight, bias = given
    layout = torch.channels_last if channels_last else torch.contiguous_format
    out = depthwise_conv2d(x.contiguous(memory_format=layout), weight, bias, stride, pads, bounds)
    assert out.is_contiguous(memory_format=torch.channels_last)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    found = [out.detach(), *torch.autograd.grad(out, given, grad)]
    assert agree(found, by_torch(given, stride, pads, bounds, grad), 1e-5)


@with_kernel
def test_parts_of_tensors_and_expanded_derivatives_are_taken():
    x, weight, bias = tensors((4, 40, 18, 10), (3, 3))
    given = [x[::2, ::2, 1::2], weight[::2].flip(3), bias[::2]]
    out = depthwise_conv2d(*given, (1, 1), ((1, 1), (1, 1)))
    grad = torch.ones(()).expand(out.shape)
    found = [out.detach(), *torch.autograd.grad(out, given, grad)]
    assert agree(found, by_torch(given, (1, 1), ((1, 1), (1, 1)), None, grad), 1e-5)


@with_kernel
def test_torchs_default_type_is_not_taken_for_the_pictures():
    given = tensors((1, 4, 9, 9), (3, 3))
    torch.set_default_dtype(torch.float64)
    try:
        out = depthwise_conv2d(*given)
        found = [out.detach(), *torch.autograd.grad(out, given, torch.ones_like(out))]
    finally:
        torch.set_default_dtype(torch.float32)
    assert {value.dtype for value in found} == {torch.float32}
    assert agree(found, by_torch(given, (1, 1), ((0, 0), (0, 0)), None, torch.ones_like(out)), 1e-5)


@pytest.mark.parametrize("bounds", [RELU, RELU6])
@with_kernel
def test_at_a_bound_the_derivative_is_that_of_the_activation(bounds):
    x = torch.tensor([-math.inf, -1, 0, 1, 6, 7, math.inf, math.nan]).view(1, 8, 1, 1).requires_grad_()
    out = depthwise_conv2d(x, torch.ones(8, 1, 1, 1), None, bounds=bounds)
    expected = ACTIVATIONS[bounds](x)
    assert torch.equal(out.nan_to_num(9), expected.nan_to_num(9))
    (found,), (theirs,) = (torch.autograd.grad(value.sum(), x) for value in (out, expected))
    assert torch.equal(found, theirs)


@pytest.mark.parametrize("wanted", [0, 1, 2])
@with_kernel
def test_only_what_is_trained_gets_a_derivative(wanted):
    given = [value.detach().requires_grad_(i == wanted) for i, value in enumerate(tensors((2, 20, 9, 9), (5, 5)))]
    out = depthwise_conv2d(*given, (2, 2), ((1, 2), (1, 2)), RELU6)
    out.square().sum().backward()
    expected = by_torch(given, (2, 2), ((1, 2), (1, 2)), RELU6, 2 * out.detach())[1:]
    assert [value.grad is not None for value in given] == [i == wanted for i in range(3)]
    assert agree([given[wanted].grad], [expected[wanted]], 1e-5)


@with_kernel
def test_the_number_of_threads_changes_no_bit():
    given = tensors((5, 40, 20, 20), (5, 5))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            out = depthwise_conv2d(*given, (2, 2), ((1, 2), (1, 2)), RELU6)
            results.append([out, *torch.autograd.grad(out.square().sum(), given)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


@with_kernel
def test_a_second_derivative_is_refused():
    given = tensors((1, 4, 5, 5), (3, 3))
    (gradient,) = torch.autograd.grad(depthwise_conv2d(*given).square().sum(), given[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_pictures_smaller_than_the_filters_are_refused():
    with pytest.raises(ValueError, match="smaller than filters"):
        depthwise_conv2d(*tensors((1, 4, 2, 9), (5, 5)), pads=((1, 1), (0, 0)))


@with_kernel
def test_what_it_cannot_do_is_torchs():
    x, weight, bias = tensors((1, 4, 9, 9), (3, 3))
    assert has_kernel_for(x, weight, bias) and has_kernel_for(x.detach(), weight)
    assert not has_kernel_for(x.detach(), weight.detach())
    assert not has_kernel_for(x, weight, bias, (2, 2))
    assert not has_kernel_for(x.double(), weight.double(), bias.double())
    assert not has_kernel_for(x.to("meta"), weight.to("meta"))
    assert not has_kernel_for(x, torch.ones(8, 1, 3, 3)) and not has_kernel_for(x, torch.ones(4, 4, 3, 3))
    assert not has_kernel_for(x, torch.ones(4, 1, 9, 9))
    with torch.no_grad():
        assert not has_kernel_for(x, weight, bias)
    with torch.autocast("cpu", torch.bfloat16):
        assert not has_kernel_for(x, weight, bias)
    asked = []
    torch.func.grad(lambda value: asked.append(has_kernel_for(value, weight)) or value.sum())(x)
    with torch.autograd.forward_ad.dual_level():
        asked.append(has_kernel_for(torch.autograd.forward_ad.make_dual(x, x.detach()), weight))
    assert asked == [False, False]


def gradients(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    images = images.clone().requires_grad_()
    model.zero_grad()
    model(images).joints.square().sum().backward()
    return {"images": images.grad} | {name: value.grad for name, value in model.named_parameters()}


def with_and_without(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of what a model says of a photo, by the kernel and by torch."""
    photo = F.avg_pool2d(torch.from_numpy(astronaut()).permute(2, 0, 1)[None].float() / 255, 2)
    called = []
    call = depthwise._call
    monkeypatch.setattr(
        depthwise, "_call", lambda backwards, *a, **k: called.append(backwards) or call(backwards, *a, **k)
    )
    found = gradients(model, photo)
    assert called.count(True) == called.count(False) == len(called) / 2 > 15
    monkeypatch.setattr(depthwise, "kernel", lambda: None)
    count, expected = len(called), gradients(model, photo)
    assert len(called) == count and found.keys() == expected.keys()
    return found, expected


@pytest.mark.usefixtures("assets")
@pytest.mark.parametrize("name", ["blazepose", "hmr_lite", "efficientnet"])
@with_kernel
def test_estimators_learn_the_same_with_and_without_it(name, monkeypatch):
    """As far as rounding lets them: it moves outputs over relu's bends, in torch's float32 as against its float64."""
    options = {"pretrained": False, "body": stick_body(), "image_size": 64} if name == "efficientnet" else {}
    gradients_of = with_and_without(build(name, **options).train_mode(frozen_batchnorm=True), monkeypatch)
    found, expected = (torch.cat([value.flatten() for value in part.values()]) for part in gradients_of)
    assert (found - expected).norm() <= 2e-2 * expected.norm()


@pytest.mark.usefixtures("assets")
@pytest.mark.parametrize("name", ["blazepose", "hmr_lite"])
@with_kernel
def test_every_gradient_is_the_same_where_activations_have_no_bends(name, monkeypatch):
    monkeypatch.setattr(tflite_module, "_BOUNDS", {})
    monkeypatch.setattr(tflite_module, "activate", lambda x, code: 3 + 3 * torch.tanh(x / 3 - 1) if code else x)
    found, expected = with_and_without(build(name).train_mode(frozen_batchnorm=True), monkeypatch)
    for key, value in expected.items():
        assert (found[key] - value).norm() <= 1e-4 * value.norm(), key


def test_without_a_compiler_torch_takes_over_and_says_so_once(monkeypatch, caplog):
    def unavailable(*_):
        raise NativeUnavailable("there is no C++ compiler here; install g++")

    monkeypatch.setattr(depthwise, "load_library", unavailable)
    monkeypatch.setattr(depthwise, "kernel", depthwise.kernel.__wrapped__)
    monkeypatch.setattr(compiled, "_said", set())
    x, weight, _ = tensors((1, 4, 9, 9), (3, 3))
    with caplog.at_level(logging.INFO):
        assert not has_kernel_for(x, weight) and not has_kernel_for(x, weight)
    messages = [record.message for record in caplog.records if "depthwise" in record.message]
    assert len(messages) == 1 and "install g++" in messages[0]


@with_kernel
def test_without_vector_instructions_the_kernel_gives_the_same(monkeypatch):
    given = tensors((2, 24, 12, 12), (5, 5))

    def result() -> list[Tensor]:
        out = depthwise_conv2d(*given, (2, 2), ((1, 2), (1, 2)), RELU6)
        return [out.detach(), *torch.autograd.grad(out.square().sum(), given)]

    native = result()
    monkeypatch.setattr(compiled, "FLAGS", tuple(flag for flag in compiled.FLAGS if flag != "-march=native"))
    plain = depthwise.kernel.__wrapped__()
    monkeypatch.setattr(depthwise, "kernel", lambda: plain)
    assert agree(result(), native, 1e-5)
