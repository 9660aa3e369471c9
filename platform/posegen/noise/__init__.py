"""Distributions of the generator's input noise, by name: `build("mixture", dim=32)`."""

from posegen.noise.base import REGISTRY, Noise, build, of_config
from posegen.noise.euclidean import Gaussian, LearnedMixture, Mixture, StudentT, Uniform
from posegen.noise.spherical import Sphere, VonMisesFisher

__all__ = [
    "REGISTRY", "Gaussian", "LearnedMixture", "Mixture", "Noise", "Sphere", "StudentT", "Uniform", "VonMisesFisher",
    "build", "of_config",
]  # fmt: skip
