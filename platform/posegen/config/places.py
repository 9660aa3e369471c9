"""Whether the files and folders that a configuration names are there, asked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from posegen.config.schema import PosegenConfig
from posegen.config_types import inner, rule_of
from posegen.errors import ConfigError


def check_places(config: Mapping[str, Any], schema: type = PosegenConfig, prefix: str = "") -> None:
    """Raises ConfigError for the first key that names a file or folder which is not there."""
    for setting in fields(schema):
        value, key, part = config.get(setting.name), f"{prefix}{setting.name}", inner(schema, setting.name)
        if part is not None and value is not None:
            check_places(value, part, f"{key}.")
        elif rule_of(setting).path == "existing" and value is not None and not Path(value).exists():
            raise ConfigError(
                f"{key} names a file or folder that is not there",
                where=f"{key}={value}",
                next_command="posegen doctor  # says which files it finds",
            )
