"""Whether the files and folders that a configuration names are there, asked before anything starts."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from posegen.config_types import rule_of
from posegen.errors import ConfigError


def check_places(settings: Any, prefix: str = "") -> None:
    """Raises ConfigError for the first key of a configuration that names a file or folder which is not there."""
    for setting in fields(settings):
        value, key = getattr(settings, setting.name), f"{prefix}{setting.name}"
        if is_dataclass(value):
            check_places(value, f"{key}.")
        elif rule_of(setting).path == "existing" and value is not None and not Path(value).exists():
            raise ConfigError(
                f"{key} names a file or folder that is not there",
                where=f"{key}={value}",
                next_command="posegen doctor  # says which files it finds",
            )
