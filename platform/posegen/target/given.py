"""Whether a configuration has a target, and pictures of it: what arms and signals ask before anything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posegen.errors import ConfigError

if TYPE_CHECKING:
    from posegen.config.schema import PosegenConfig
    from posegen.target.config import TargetConfig


def is_given(settings: TargetConfig) -> bool:
    """Whether there is a target at all."""
    return bool(settings.images or settings.keypoints or settings.lifted or settings.embedded)


def needs_target(config: PosegenConfig) -> None:
    """Raises ConfigError for a configuration without a target."""
    if not is_given(config.target):
        raise ConfigError(
            "this arm is about a target, and none is given", where="target",
            next_command="target.images=FOLDER, target.keypoints=FILE, or target=embedded",
        )  # fmt: skip


def has_pictures(settings: TargetConfig) -> bool:
    """Whether the target has pictures, as far as can be told before it is read."""
    return bool(settings.images or settings.embedded or settings.lifted)


def needs_pictures(config: PosegenConfig) -> None:
    """Raises ConfigError where the target is not known by pictures."""
    needs_target(config)
    if not has_pictures(config.target):
        raise ConfigError(
            "pictures of the target are asked for, and it is known by keypoints alone", where="target.images",
            next_command="target.images=FOLDER",
        )  # fmt: skip
