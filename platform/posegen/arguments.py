"""Whether a factory takes the options that a user gave: by name, by what it cannot do without, by simple types."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from os import PathLike
from typing import Any

from posegen.errors import ConfigError, did_you_mean

# Annotations that are looked at, all others are the factory's to judge: what a value is, and how it is said.
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "bool": ((bool,), "true or false"),
    "int": ((Integral,), "a whole number"),
    "float": ((Real,), "a number"),
    "str": ((str, PathLike), "a text"),
    "Path": ((str, PathLike), "a path"),
    "None": ((type(None),), "null"),
}


def check_arguments(
    owner: str,
    factory: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    where: str | None = None,
    missing: Callable[[list[str]], str] | None = None,
    more: Iterable[str] = (),
) -> None:
    """Raises ConfigError for options that a factory cannot be called with.

    Args:
        owner: who has the options, such as `benchmark ski-like`.
        factory: what takes them; unknown names are its own to judge where it takes any.
        where: they were given.
        missing: the command that gives those that are needed and not there, each as `name=WHAT`; None does not ask.
        more: names that are taken beside those of the factory.
    """
    parameters = inspect.signature(factory).parameters
    named = {name: found for name, found in parameters.items() if not found.kind.name.startswith("VAR_")}
    valid = [*named, *more]
    open_ended = any(found.kind is inspect.Parameter.VAR_KEYWORD for found in parameters.values())
    for option, value in options.items():
        if option in named:
            kinds = _kinds(named[option].annotation)
            if kinds and not any(_is(value, kind) for kind in kinds):
                said = " or ".join(_KINDS[kind][1] for kind in kinds)
                raise ConfigError(f"{owner}: {option} is {said}, not {value!r}", where=where)
        elif option not in valid and (more or not open_ended):
            hint = did_you_mean(option, valid)
            raise ConfigError(f"{owner} has no option {option!r}{hint}", where=where, choices=valid)
    lacking = [found for name, found in named.items() if found.default is found.empty and name not in options]
    if lacking and missing is not None:
        blanks = [f"{found.name}={'PATH' if 'Path' in str(found.annotation) else 'VALUE'}" for found in lacking]
        names = ", ".join(found.name for found in lacking)
        raise ConfigError(f"{owner} needs {names}", where=where, next_command=missing(blanks))


def _kinds(annotation: Any) -> list[str]:
    """The simple kinds of an annotation; none where it holds any other."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    kinds = [part.strip() for part in text.split("|")]
    return kinds if all(kind in _KINDS for kind in kinds) else []


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):  # which Python counts as a whole number
        return kind == "bool"
    return isinstance(value, _KINDS[kind][0])
