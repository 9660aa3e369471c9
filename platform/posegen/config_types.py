"""From plain dicts to checked dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from posegen.errors import ConfigError, closest

T = TypeVar("T")


def typed(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `cls` (nested ones too) from a plain dict.

    Raises ConfigError for unknown keys, with the valid ones, and for values of the wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    valid = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in valid:
            near = closest(str(key), valid)
            hint = f"; did you mean {near!r}?" if near else ""
            raise ConfigError(f"unknown key {key!r}{hint}", where=where, choices=valid)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(cls), OmegaConf.create(dict(values)))
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0], where=where) from error
