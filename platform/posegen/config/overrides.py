"""From what a person types to what Hydra's grammar reads: text stays the text that was typed, paths are expanded.

Hydra reads `run.name=12e34567` as a number and refuses `body.path=~/smpl`, blanks, brackets and accents. A value for
a key that holds text is therefore quoted before Hydra sees it; so is any value that its grammar cannot read. A key that
holds a list takes `a,b` as it takes `[a,b]`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_origin

from posegen.config.schema import PosegenConfig
from posegen.config_types import field_at, hints, inner, is_text, rule_of
from posegen.errors import ConfigError

QUOTES = ("'", '"')


def readable(override: str) -> str:
    """The override as Hydra's grammar takes it."""
    key, equals, value = override.partition("=")
    name = key.lstrip("+~")
    if equals and _holds_list(name) and value != "null" and not value.startswith(("[", "${")):
        return f"{key}={_listed(value)}"
    if not equals or _is_quoted(value):
        return override
    if _holds_text(name):
        return override if value in ("", "null") or "${" in value else f"{key}={quoted(value)}"
    if field_at(PosegenConfig, name) is not None and not _is_free(name):
        return override
    return override if _parses(override) else f"{key}={quoted(value)}"


def quoted(text: str) -> str:
    """A text in Hydra's quotes: quotes in it are escaped, and backslashes before quotes doubled."""
    escaped = re.sub(r"(\\*)'", lambda found: found.group(1) * 2 + "\\'", text)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"


def _listed(value: str) -> str:
    """A list without its brackets: one element, or several between commas."""
    if _is_quoted(value) or value.startswith("{"):
        return f"[{value}]"
    elements = [element.strip() for element in value.split(",")] if value else []
    return f"[{','.join(quoted(element) for element in elements)}]"


def opened(override: str) -> str:
    """Lets an override add a key to a part that may hold any, such as estimator.options or benchmark."""
    if override.startswith(("+", "~")):
        return override
    key, _, value = override.partition("=")
    return f"++{override}" if _is_free(key) or (value.startswith("{") and _holds_any(key)) else override


def expanded(text: str) -> str:
    """A path with `~` and environment variables put in."""
    return os.path.expanduser(os.path.expandvars(text))


def with_paths(settings: Any) -> Any:
    """The configuration with every path in it expanded, those in free parts (`benchmark`, `options`) too."""
    changed: dict[str, Any] = {}
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if is_dataclass(value):
            changed[setting.name] = with_paths(value)
        elif isinstance(value, str) and rule_of(setting).path is not None:
            changed[setting.name] = expanded(value)
        elif isinstance(value, dict) and setting.name != "split":
            changed[setting.name] = _paths_in(value)
    return replace(settings, **changed) if changed else settings


def check_shape(overrides: Sequence[str], choices: Sequence[str]) -> None:
    """Raises ConfigError for a word that is no override at all."""
    for override in overrides:
        if "=" not in override and not override.startswith("~"):
            raise ConfigError(
                f"{override!r} is no override: write key=value", choices=choices, next_command="posegen run --help"
            )


def _paths_in(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _paths_in(inside) for key, inside in value.items()}
    if isinstance(value, list):
        return [_paths_in(inside) for inside in value]
    return expanded(value) if isinstance(value, str) and value.startswith(("~", "$")) else value


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] in QUOTES and value[-1] == value[0]


def _holder(key: str) -> tuple[type | None, str]:
    """The dataclass in which a dotted key's last name stands, None where there is none; and that name."""
    *parents, last = key.split(".")
    node: type | None = PosegenConfig
    for part in parents:
        node = inner(node, part) if node is not None else None
    return node, last


def _holds_text(key: str) -> bool:
    node, last = _holder(key)
    return node is not None and is_text(node, last)


def _holds_list(key: str) -> bool:
    node, last = _holder(key)
    return node is not None and get_origin(hints(node).get(last)) in (list, tuple)


def _is_free(key: str) -> bool:
    """Whether a key lies inside a part that may hold any key."""
    node: type | None = PosegenConfig
    for part in key.lstrip("+~").split("."):
        if node is None:
            return True
        if part not in node.__dataclass_fields__:  # type: ignore[attr-defined]
            return False
        node = inner(node, part)
    return False


def _holds_any(key: str) -> bool:
    """Whether a key is a part that may hold any key."""
    node, last = _holder(key)
    return node is not None and get_origin(hints(node).get(last)) is dict


def _parses(override: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True
