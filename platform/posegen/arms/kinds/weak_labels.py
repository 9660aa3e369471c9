"""The target's pictures with their 2-D keypoints alone, beside source rows: what no rendering brings by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from posegen.arms.registry import Arm
from posegen.target.given import needs_pictures

if TYPE_CHECKING:
    from posegen.config import PosegenConfig


def without_rows(config: PosegenConfig) -> PosegenConfig:
    """All that is not source is the target's."""
    settings = config.finetune
    return replace(config, finetune=replace(settings, target_share=1 - settings.source_share))


ARM = Arm(
    "weak_labels", "weak labels", "the target's pictures with their 2-D keypoints, nothing rendered", "#885566", "<",
    place=35, propose=None, configure=without_rows, check=needs_pictures, shown_target=True,
)  # fmt: skip
