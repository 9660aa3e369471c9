"""Noise on the unit sphere of R^dim."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from posegen.noise.base import REGISTRY, Noise


@REGISTRY.register("sphere")
class Sphere(Noise):
    """Uniform on the sphere of the given radius (1 in PoseGen's release)."""

    def __init__(self, dim: int = 32, radius: float = 1.0) -> None:
        super().__init__(dim)
        self.radius = radius

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return F.normalize(torch.randn(n, self.dim, generator=generator), dim=1) * self.radius


@REGISTRY.register("von_mises_fisher")
class VonMisesFisher(Noise):
    """von Mises-Fisher around the first axis with concentration kappa (kappa = 0 is uniform on the sphere).

    Wood (1994), Simulation of the von Mises Fisher distribution: rejection sampling of w = cos(angle to the mean)
    with a Beta envelope, then a uniform direction in the tangent space.
    """

    def __init__(self, dim: int = 32, kappa: float = 20.0) -> None:
        super().__init__(dim)
        if dim < 2:
            raise ValueError("von_mises_fisher needs dim >= 2")
        if kappa < 0:
            raise ValueError(f"kappa must not be negative: {kappa}")
        self.kappa = kappa

    def _cosines(self, n: int, generator: torch.Generator) -> Tensor:
        m = self.dim - 1
        b = m / (2 * self.kappa + math.sqrt(4 * self.kappa**2 + m**2))
        x0 = (1 - b) / (1 + b)
        c = self.kappa * x0 + m * math.log(1 - x0**2)
        accepted: list[Tensor] = []
        count = 0
        while count < n:
            # Beta(m/2, m/2) as a ratio of chi-squared sums, which torch can draw from a given generator.
            size = 2 * (n - count) + 16
            g = torch.randn(size, 2 * m, generator=generator, dtype=torch.float64).square()
            z = g[:, :m].sum(1) / g.sum(1)
            w = (1 - (1 + b) * z) / (1 - (1 - b) * z)
            u = torch.rand(size, generator=generator, dtype=torch.float64)
            w = w[self.kappa * w + m * torch.log(1 - x0 * w) - c >= torch.log(u)]
            accepted.append(w)
            count += len(w)
        return torch.cat(accepted)[:n]

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        if self.kappa == 0:
            return F.normalize(torch.randn(n, self.dim, generator=generator), dim=1)
        w = self._cosines(n, generator)[:, None]
        tangent = F.normalize(torch.randn(n, self.dim - 1, generator=generator, dtype=torch.float64), dim=1)
        return torch.cat([w, (1 - w * w).clamp_min(0).sqrt() * tangent], 1).float()
