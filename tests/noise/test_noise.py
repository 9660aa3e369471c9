"""Each noise has the moments its formula promises."""

import math

import pytest
import torch
from scipy.special import iv

from posegen import noise
from posegen.errors import ConfigError

N = 60_000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", noise.REGISTRY.names())
def test_shape_and_seed(name):
    n = noise.build(name, dim=8)
    a, b, c = (n.sample(100, generator(s)) for s in (3, 3, 4))
    assert a.shape == (100, 8)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.isfinite(a).all()


@pytest.mark.parametrize(("name", "variance"), [("gaussian", 1.0), ("uniform", 1.0), ("mixture", 1 + 50)])
def test_variance(name, variance):
    x = noise.build(name, dim=4).sample(N, generator())
    assert x.mean(0).abs().max() < 0.15
    assert x.var(0) == pytest.approx(torch.full((4,), float(variance)), rel=0.03)


def test_mixture_has_five_modes():
    x = noise.build("mixture", dim=2).sample(N, generator()).mean(1)
    share = [(abs(x - m) < 2.0).float().mean().item() for m in (-10, -5, 0, 5, 10)]
    assert share == pytest.approx([0.2] * 5, abs=0.01)


def test_student_t_variance_is_df_over_df_minus_two():
    x = noise.build("student_t", dim=3, df=10).sample(N, generator())
    assert x.var(0) == pytest.approx(torch.full((3,), 10 / 8), rel=0.05)


def test_sphere_is_on_the_sphere_and_isotropic():
    x = noise.build("sphere", dim=3).sample(N, generator())
    assert x.norm(dim=1) == pytest.approx(torch.ones(N), abs=1e-5)
    assert (x.T @ x / N) == pytest.approx(torch.eye(3) / 3, abs=0.01)


@pytest.mark.parametrize(("dim", "kappa"), [(3, 5.0), (8, 20.0)])
def test_von_mises_fisher_mean_is_the_ratio_of_bessel_functions(dim, kappa):
    x = noise.build("von_mises_fisher", dim=dim, kappa=kappa).sample(N, generator())
    expected = iv(dim / 2, kappa) / iv(dim / 2 - 1, kappa)
    assert x.norm(dim=1) == pytest.approx(torch.ones(N), abs=1e-5)
    assert x[:, 0].mean().item() == pytest.approx(expected, abs=0.005)
    assert x[:, 1:].mean(0).abs().max() < 0.01


def test_learned_mixture_carries_gradient_to_the_mode_that_was_drawn():
    n = noise.build("learned_mixture", dim=4, modes=3)
    raw = torch.cat([torch.full((5, 1), 1.0), torch.zeros(5, 4)], 1)
    n(raw).sum().backward()
    assert n.means.grad[1].tolist() == [5.0] * 4
    assert n.means.grad[[0, 2]].abs().max() == 0


def test_unknown_name_and_option_name_the_choices():
    with pytest.raises(ConfigError, match="did you mean 'gaussian'") as caught:
        noise.build("gausian")
    assert "von_mises_fisher" in str(caught.value)
    with pytest.raises(ConfigError, match="kappa"):
        noise.build("gaussian", kappa=1.0)


def test_bad_parameters():
    for name, options in (("student_t", {"df": 0}), ("von_mises_fisher", {"kappa": -1}), ("gaussian", {"dim": 0})):
        with pytest.raises(ConfigError, match=f"noise {name} does not take these options: {next(iter(options))}"):
            noise.build(name, **options)


def test_uniform_is_bounded():
    assert noise.build("uniform", dim=5).sample(1000, generator()).abs().max() <= math.sqrt(3)
