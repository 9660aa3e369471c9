"""Typed settings: fields that say what they may hold, and the way from plain dicts to frozen dataclasses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from posegen.errors import ConfigError, did_you_mean

T = TypeVar("T")
RULE = "posegen"  # the key of a field's rule in its metadata


@dataclass(frozen=True)
class Rule:
    """What the value of a setting may be, beyond its type.

    Attributes:
        low, high: bounds of a number, both allowed; None is open.
        above: the number must be larger than this.
        choices: the names that a text may be.
        path: a place on disk: "any", or "existing", which must be there before anything starts.
    """

    low: float | None = None
    high: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    path: str | None = None

    def problem(self, value: Any) -> str | None:
        """Why a value will not do; None if it does."""
        if value is None or self.path is not None:
            return None
        if self.choices:
            return None if value in self.choices else f"{value!r} is not among the choices"
        if self.low is not None and not value >= self.low:
            return f"{value} is too small: {self.low:g} at least"
        if self.above is not None and not value > self.above:
            return f"{value} is too small: more than {self.above:g}"
        if self.high is not None and not value <= self.high:
            return f"{value} is too large: {self.high:g} at most"
        return None


def number(default: Any, low: float | None = None, high: float | None = None, above: float | None = None) -> Any:
    """A field for a number within bounds."""
    return field(default=default, metadata={RULE: Rule(low, high, above)})


def share(default: float) -> Any:
    """A field for a number from 0 to 1."""
    return number(default, 0.0, 1.0)


def choice(default: str, choices: Sequence[str]) -> Any:
    """A field for one of several names."""
    return field(default=default, metadata={RULE: Rule(choices=tuple(choices))})


def place(default: str | None = None, existing: bool = False) -> Any:
    """A field for a path; `~` and environment variables in it are expanded."""
    return field(default=default, metadata={RULE: Rule(path="existing" if existing else "any")})


def rule_of(setting: Any) -> Rule:
    """The rule of a dataclass field."""
    return setting.metadata.get(RULE, Rule())


def field_at(cls: type, key: str) -> Any | None:
    """The dataclass field of a dotted key, such as "finetune.steps"; None where there is none."""
    node: Any = cls
    found = None
    for part in key.split("."):
        if not is_dataclass(node):
            return None
        found = {f.name: f for f in fields(node)}.get(part)
        if found is None:
            return None
        node = hints(node)[part]  # type: ignore[arg-type]
    return found


def hints(cls: type) -> dict[str, Any]:
    """The types of a dataclass' fields."""
    return _hints(cls)


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


def inner(cls: type, name: str) -> type | None:
    """The dataclass that a field holds, None if it holds another thing."""
    kind = hints(cls).get(name)
    return kind if isinstance(kind, type) and is_dataclass(kind) else None


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass, with those inside it, from a dict whose keys and types have been checked. Lists become tuples."""
    built: dict[str, Any] = {}
    for setting in fields(cls):  # type: ignore[arg-type]
        if setting.name not in values:
            continue
        value = values[setting.name]
        part = inner(cls, setting.name)
        if part is not None:
            value = build(part, value)
        elif get_origin(hints(cls)[setting.name]) is tuple:
            value = tuple(value)
        built[setting.name] = value
    return cls(**built)


def typed(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `cls` (nested ones too) from a plain dict.

    Raises ConfigError for unknown keys, with the valid ones, and for values of the wrong type or out of bounds.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for key in _dotted(values):
        problem = unknown_key(cls, key)
        if problem is not None:
            raise ConfigError(problem[0], where=where, choices=problem[1])
    try:
        merged = OmegaConf.merge(open_schema(cls), OmegaConf.create(dict(values)))  # type: ignore[arg-type]
        plain = OmegaConf.to_container(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0], where=where) from error
    made = build(cls, plain)  # type: ignore[arg-type]
    check_rules(made, where)
    return made


def unknown_key(cls: type, key: str) -> tuple[str, list[str]] | None:
    """The sentence and the valid names where a dotted key leaves a dataclass and those inside it. None for a key that
    is known, or that leads into a free dict or list."""
    node: type | None = cls
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if node is None:
            return None
        valid = [setting.name for setting in fields(node)]  # type: ignore[arg-type]
        if part not in valid:
            hint = did_you_mean(part, valid)
            return f"unknown key {'.'.join(parts[: depth + 1])!r}{hint}", valid
        node = inner(node, part)
    return None


def _dotted(values: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """The keys of a nested dict, dotted; of an empty one its own."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@cache
def open_schema(cls: type) -> Any:
    """OmegaConf's node of a dataclass, from which others are merged: of a frozen one it makes a read-only node."""
    from omegaconf import DictConfig, OmegaConf

    node = OmegaConf.structured(cls)

    def unlock(part: Any) -> None:
        OmegaConf.set_readonly(part, None)
        for key in part:
            child = part._get_node(key)
            if isinstance(child, DictConfig) and not child._is_none():
                unlock(child)

    unlock(node)
    return node


def check_rules(settings: Any, where: str = "") -> None:
    """Raises ConfigError for the first setting whose value is out of bounds."""
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        key = f"{where}.{setting.name}" if where else setting.name
        if is_dataclass(value):
            check_rules(value, key)
            continue
        rule = rule_of(setting)
        problem = rule.problem(value)
        if problem is not None:
            hint = did_you_mean(str(value), rule.choices or ())
            raise ConfigError(f"{key}: {problem}{hint}", where=f"{key}={value}", choices=rule.choices or None)


def default_of(setting: Any) -> Any:
    """A field's default value."""
    if setting.default is not MISSING:
        return setting.default
    return setting.default_factory() if setting.default_factory is not MISSING else None


def is_text(cls: type, name: str) -> bool:
    """Whether a field holds a text or nothing."""
    kind = hints(cls).get(name)
    return kind is str or set(get_args(kind)) == {str, type(None)}
