"""The fitted articulated field: what comes with the package, and what `posegen fit-subject` makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posegen.arguments import check_arguments
from posegen.renderer.registry import RendererKind

if TYPE_CHECKING:
    import torch

    from posegen.body.model import BodyModel
    from posegen.config.schema import RendererConfig
    from posegen.scene import Renderer


def build(settings: RendererConfig, device: torch.device) -> Renderer:
    from posegen.renderer.field.artifact import load_field

    return load_field(settings.checkpoint, config=settings).to(device).requires_grad_(False)


def check_body(renderer: Renderer, body: BodyModel) -> None:
    """A field that rides on another skeleton than the body's would be labelled wrongly. Raises CheckpointError."""
    import torch

    from posegen.renderer.field.artifact import check_skeleton

    check_skeleton(renderer, body.rest_joints(torch.zeros(1, 10, device=body.v_template.device))[0])  # type: ignore[arg-type]


def check(settings: RendererConfig) -> None:
    """Its settings are keys of their own: `renderer.options` has none. Raises ConfigError, CheckpointError for a file
    that is no field."""
    from posegen.renderer.field.artifact import load_field

    check_arguments("renderer field", lambda: None, settings.options, where="renderer.options")
    if settings.checkpoint is not None:
        load_field(settings.checkpoint, config=settings)


RENDERER = RendererKind("field", "the fitted articulated field", build=build, check=check, check_body=check_body)
