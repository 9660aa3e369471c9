"""Every key of the configuration with its meaning, type, default and bounds: for `posegen help` and the reference.

What a key means is written once, where its field is: in the docstring of its dataclass (`Args:` or `Attributes:`), in
the comment behind the field, or in the comment lines above it. This module reads it from there.
"""

from __future__ import annotations

import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin

from posegen.config.schema import PosegenConfig
from posegen.config_types import default_of, hints, inner, rule_of

_SECTION = re.compile(r"^(Args|Attributes):$")
_ENTRY = re.compile(r"^    (\w+(?:, \w+)*): (.+)$")
_FIELD = re.compile(r"^    (\w+)\s*:\s")


@dataclass(frozen=True)
class Key:
    """One setting, as `finetune.steps`.

    Attributes:
        name: dotted, as in an override.
        kind: its type in words, such as "whole number or null".
        default: as one would write it in an override.
        bounds: such as "at least 1"; empty where anything of the type will do.
        choices: the names that it may be; empty where any may be.
        meaning: one or two sentences.
    """

    name: str
    kind: str
    default: str
    bounds: str
    choices: tuple[str, ...]
    meaning: str


@dataclass(frozen=True)
class Part:
    """A part of the configuration, as `finetune`, with what is said of it as a whole."""

    name: str  # "" is the top
    meaning: str
    keys: tuple[Key, ...]


@cache
def parts() -> tuple[Part, ...]:
    """All parts, the top first; keys in the order of the schema."""
    found = [Part("", _about(PosegenConfig), tuple(_leaves(PosegenConfig, "")))]
    for setting in fields(PosegenConfig):
        part = inner(PosegenConfig, setting.name)
        if part is not None:
            found.append(Part(setting.name, _about(part), tuple(_leaves(part, f"{setting.name}."))))
    return tuple(found)


@cache
def keys() -> dict[str, Key]:
    """Every key by its dotted name."""
    return {key.name: key for part in parts() for key in part.keys}


def _leaves(cls: type, prefix: str) -> Iterator[Key]:
    told = meanings(cls)
    for setting in fields(cls):
        part = inner(cls, setting.name)
        if part is not None:
            if prefix:
                yield from _leaves(part, f"{prefix}{setting.name}.")
            continue
        rule, default = rule_of(setting), default_of(setting)
        yield Key(
            name=f"{prefix}{setting.name}",
            kind=kind_text(hints(cls)[setting.name], rule.path),
            default=value_text(default),
            bounds=_bounds(rule.low, rule.above, rule.high),
            choices=rule.choices,
            meaning=told.get(setting.name, "").removesuffix("."),
        )


def kind_text(kind: Any, path: str | None = None) -> str:
    """A type in words: "whole number", "path or null", "list of text"."""
    if get_origin(kind) in (Union, UnionType):
        inside = [kind_text(part, path) for part in get_args(kind) if part is not type(None)]
        return " or ".join([*inside, "null"])
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        return "list" if item is Any else f"list of {kind_text(item)}"
    if kind is str:
        return "path" if path is not None else "text"
    names = {int: "whole number", float: "number", bool: "true or false"}
    return names.get(kind, "mapping" if get_origin(kind) is dict else str(getattr(kind, "__name__", kind)))


def value_text(value: Any) -> str:
    """A value as it is written in an override or in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {value_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(value_text, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _bounds(low: float | None, above: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"from {low:g} to {high:g}"
    said = []
    if low is not None:
        said.append(f"at least {low:g}")
    if above is not None:
        said.append(f"more than {above:g}")
    if high is not None:
        said.append(f"at most {high:g}")
    return ", ".join(said)


def _about(cls: type) -> str:
    """The docstring of a dataclass without its list of fields, one paragraph a line."""
    text = inspect.cleandoc(cls.__doc__ or "")
    kept = []
    for paragraph in text.split("\n\n"):
        if _SECTION.match(paragraph.splitlines()[0] if paragraph else ""):
            break
        kept.append(" ".join(paragraph.split()))
    return "\n".join(kept)


@cache
def meanings(cls: type) -> dict[str, str]:
    """What is said of each field of a dataclass; a field of which nothing is said has no entry.

    Fields that are inherited bring the meaning that their own class says.
    """
    told: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base is object or not hasattr(base, "__dataclass_fields__"):
            continue
        told |= _from_comments(inspect.getsource(base))
        told |= _from_docstring(base.__doc__ or "")
    names = {setting.name for setting in fields(cls)}
    return {name: text for name, text in told.items() if name in names}


def _from_docstring(docstring: str) -> dict[str, str]:
    told: dict[str, str] = {}
    inside = False
    current: list[str] = []
    for line in inspect.cleandoc(docstring).splitlines():
        if _SECTION.match(line):
            inside, current = True, []
        elif inside and line and not line.startswith(" "):
            inside = False
        elif inside and (entry := _ENTRY.match(line)):
            current = entry[1].split(", ")
            for name in current:
                told[name] = entry[2].strip()
        elif inside and line.strip():
            for name in current:
                told[name] += f" {line.strip()}"
    return told


def _from_comments(source: str) -> dict[str, str]:
    """The comment of each field of a class' source: behind it, else above it. Fields come before methods."""
    told: dict[str, str] = {}
    lines = textwrap.dedent(source).splitlines(keepends=True)
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO("".join(lines)).readline)
        if token.type == tokenize.COMMENT
    }
    name: str | None = None
    above: list[str] = []
    for number, line in enumerate(lines, start=1):
        if line.startswith(("    def ", "    @")):
            break
        field_line = _FIELD.match(line)
        alone = line.strip().startswith("#")
        if field_line:
            name = field_line[1]
            if above:
                told[name] = " ".join(above)
            above = []
        if alone:
            above.append(comments.get(number, ""))
        elif number in comments and name is not None:
            told[name] = comments[number]
        elif not line.strip():
            above = []
    return told
