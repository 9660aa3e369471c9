"""The renderers of an experiment: ways to turn the scenes of arms and generators into pictures.

A renderer is a record in a file of its own (posegen.renderer.kinds, or a plug-in's entry point `posegen.renderers`);
nothing else in the tree knows one by its name. To import this costs no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from posegen.errors import ConfigError, did_you_mean
from posegen.registry import records

if TYPE_CHECKING:
    import torch

    from posegen.body.model import BodyModel
    from posegen.config.schema import RendererConfig
    from posegen.scene import Renderer


def nothing(settings: RendererConfig) -> None:
    del settings


def any_body(renderer: Renderer, body: BodyModel) -> None:
    del renderer, body


@dataclass(frozen=True)
class RendererKind:
    """One way to render.

    Attributes:
        name: in `renderer=NAME`.
        meaning: a few words.
        build: the renderer of settings (`checkpoint`, `subjects`, `options`...) on a device, without trainable weights.
        check: raises where the settings lack what it needs; called before anything starts.
        check_body: raises where labels of a body's joints would not fit the renderer's pictures.
    """

    name: str
    meaning: str
    build: Callable[[RendererConfig, torch.device], Renderer]
    check: Callable[[RendererConfig], None] = nothing
    check_body: Callable[[Renderer, BodyModel], None] = any_body


@cache
def _known() -> dict[str, RendererKind]:
    from posegen.renderer import kinds

    return {kind.name: kind for kind in records(kinds, "RENDERER", "posegen.renderers")}


def names() -> list[str]:
    return sorted(_known())


def kind_of(name: str) -> RendererKind:
    """The renderer of a name. Raises ConfigError with the valid names."""
    kind = _known().get(name)
    if kind is None:
        hint = did_you_mean(name, names())
        raise ConfigError(f"unknown renderer {name!r}{hint}", where="renderer.name", choices=names())
    return kind
