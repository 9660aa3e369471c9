"""A checkpoint of the original A-NeRF: slow, renders what the original renders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posegen.errors import ConfigError
from posegen.renderer.registry import RendererKind

if TYPE_CHECKING:
    import torch

    from posegen.config.schema import RendererConfig
    from posegen.scene import Renderer


def build(settings: RendererConfig, device: torch.device) -> Renderer:
    from posegen.renderer.anerf.renderer import load_anerf

    check(settings)
    return load_anerf(str(settings.checkpoint), **settings.options).to(device).requires_grad_(False)


def check(settings: RendererConfig) -> None:
    """None comes with the package. Raises ConfigError."""
    from posegen.renderer.anerf.renderer import check_options

    if settings.checkpoint is None:
        raise ConfigError(
            "A-NeRF needs a checkpoint",
            where="renderer.checkpoint",
            next_command="posegen run renderer=anerf renderer.checkpoint=FILE.tar",
        )
    check_options(settings.options)


RENDERER = RendererKind("anerf", "a checkpoint of the original A-NeRF", build=build, check=check)
