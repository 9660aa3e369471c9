"""Noise that fills R^dim."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from posegen.noise.base import REGISTRY, Noise


@REGISTRY.register("gaussian")
class Gaussian(Noise):
    """N(0, std^2 I): PoseGen's first choice with std = 1."""

    def __init__(self, dim: int = 32, std: float = 1.0) -> None:
        super().__init__(dim)
        self.std = std

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, self.dim, generator=generator) * self.std


@REGISTRY.register("uniform")
class Uniform(Noise):
    """Uniform on [-a, a]^dim; the default a = sqrt(3) has unit variance."""

    def __init__(self, dim: int = 32, half_width: float = math.sqrt(3)) -> None:
        super().__init__(dim)
        self.half_width = half_width

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return (torch.rand(n, self.dim, generator=generator) * 2 - 1) * self.half_width


@REGISTRY.register("mixture")
class Mixture(Noise):
    """A Gaussian mixture with equal weights, each mode at a constant vector.

    The defaults are PoseGen's five modes at -10, -5, 0, 5, 10 with unit covariance (released code).
    """

    means: Tensor

    def __init__(self, dim: int = 32, means: Sequence[float] = (-10, -5, 0, 5, 10), std: float = 1.0) -> None:
        super().__init__(dim)
        if not means:
            raise ValueError("a mixture needs at least one mean")
        self.register_buffer("means", torch.tensor(list(means), dtype=torch.float32), persistent=False)
        self.std = std

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        mode = torch.randint(len(self.means), (n, 1), generator=generator)
        return self.means.cpu()[mode] + self.std * torch.randn(n, self.dim, generator=generator)


@REGISTRY.register("student_t")
class StudentT(Noise):
    """Multivariate Student t: heavier tails, so that rare inputs are seen more often.

    x = g / sqrt(c / df) with g ~ N(0, I) and c ~ chi-squared(df); df must be an integer (c is a sum of squares).
    """

    def __init__(self, dim: int = 32, df: int = 4) -> None:
        super().__init__(dim)
        if df < 1:
            raise ValueError(f"df must be at least 1, not {df}")
        self.df = int(df)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        g = torch.randn(n, self.dim, generator=generator)
        chi2 = torch.randn(n, self.df, generator=generator).square().sum(1, keepdim=True)
        return g / (chi2 / self.df).sqrt().clamp_min(1e-3)


@REGISTRY.register("learned_mixture")
class LearnedMixture(Noise):
    """A Gaussian mixture whose means and spreads are trained with the generator (equal weights).

    x = mean[mode] + exp(log_std[mode]) * g. The mode is part of the draw, so the map is differentiable in means and
    spreads: modes move to where the feedback pulls them, as PoseExaminer's local policies do.
    """

    def __init__(self, dim: int = 32, modes: int = 8, spread: float = 2.0, seed: int = 0) -> None:
        super().__init__(dim)
        if modes < 1:
            raise ValueError(f"modes must be at least 1, not {modes}")
        start = torch.randn(modes, dim, generator=torch.Generator().manual_seed(seed))
        self.means = nn.Parameter(start * spread / math.sqrt(dim))
        self.log_std = nn.Parameter(torch.zeros(modes, dim))

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        mode = torch.randint(len(self.means), (n, 1), generator=generator).float()
        return torch.cat([mode, torch.randn(n, self.dim, generator=generator)], 1)

    def forward(self, raw: Tensor) -> Tensor:
        mode = raw[:, 0].long()
        return self.means[mode] + self.log_std.clamp(-3, 2).exp()[mode] * raw[:, 1:]
