"""What a noise distribution is: seeded draws on the CPU, then a map that may be learned.

The two are apart so that data-parallel workers can draw the whole batch from one generator, each take its slice, and
still send gradients to the distribution's parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from posegen.arguments import check_arguments
from posegen.errors import ConfigError
from posegen.registry import Registry

if TYPE_CHECKING:
    from posegen.config.schema import NoiseConfig


class Noise(nn.Module):
    """A distribution over R^dim.

    `draw` returns the raw randomness (n, raw_dim), always on the CPU; `forward` maps it to noise (n, dim) and is
    differentiable in the distribution's parameters, if it has any. Both act row by row.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim must be positive, not {dim}")
        self.dim = dim

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not define draw")

    def forward(self, raw: Tensor) -> Tensor:
        return raw

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n samples (n, dim): `forward(draw(n))`."""
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        return self.forward(self.draw(n, generator).to(device))


REGISTRY: Registry[Noise] = Registry("noises")


def build(name: str, **options: Any) -> Noise:
    """The noise called `name`. Raises ConfigError with the valid names, or that name's valid options."""
    factory = REGISTRY.get(name)
    check_arguments(f"noise {name}", factory, options, where="noise.options")
    try:
        return factory(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"noise {name} does not take these options: {error}", where="noise.options") from error


def of_config(settings: NoiseConfig) -> Noise:
    """The noise of a configuration. ConfigError as `build`."""
    return build(settings.name, **{"dim": settings.dim, **settings.options})
