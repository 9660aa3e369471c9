"""Reads the small text files of a run and of a user: JSON, JSON lines, YAML. Bounded, UTF-8, and never an odd error.

Whatever is wrong with such a file is a DataError that names it and says what to do.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from posegen.errors import DataError

log = logging.getLogger(__name__)

MB = 2**20
MOST_TEXT = 64 * MB
MOST_YAML = MB // 2  # the safe parser is slow
MOST_YAML_NODES = 50_000  # with aliases counted each time they are used
MOST_DEPTH = 60  # of nested lists and mappings


def read_text(path: Path | str, what: str = "the file", cure: str | None = None, most: int = MOST_TEXT) -> str:
    """A UTF-8 text of at most `most` bytes. FileNotFoundError stays what it is; all else is a DataError.

    Args:
        what: the file in words, such as "the split".
        cure: the next command.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{what} cannot be read: {_reason(error)}", where=path, next_command=cure) from error
    if len(data) > most:
        raise DataError(f"{what} has more than {most // 1024} kB", where=path, next_command=cure)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{what} is damaged: byte {error.start} is no UTF-8", where=path, next_command=cure) from error
    return text


def parse_json(text: str, *, nan: bool = True) -> Any:
    """JSON of bounded depth. ValueError says what is wrong. Without `nan`, NaN and Infinity are refused."""
    if _depth(text) > MOST_DEPTH:
        raise ValueError(f"nested deeper than {MOST_DEPTH} levels")
    try:
        return json.loads(text, parse_constant=None if nan else _no_constant, parse_float=float if nan else _finite)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def read_json(
    path: Path | str, what: str = "the file", cure: str | None = None, *, nan: bool = True, most: int = MOST_TEXT
) -> dict[str, Any]:
    """A JSON object. See `read_text` for the errors."""
    text = read_text(path, what, cure, most)
    try:
        value = parse_json(text, nan=nan)
    except ValueError as error:
        raise DataError(f"{what} is damaged or cut short: {error}", where=path, next_command=cure) from error
    if not isinstance(value, dict):
        raise DataError(f"{what} holds no JSON object", where=path, next_command=cure)
    return value


def read_history(path: Path | str, tell: Callable[[str], None] = log.warning) -> list[dict[str, Any]]:
    """The rows of a history file, one JSON object with its `step` a line; empty where there is no file.

    A last line that a kill cut short is left out in silence. Other lines that cannot be read are left out, too, and
    told: the steps around them are still good.
    """
    try:
        text = read_text(path, "the history")
    except FileNotFoundError:
        return []
    rows, bad = [], []
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
            step = row["step"] if isinstance(row, dict) else None
            good = isinstance(step, int | float) and not isinstance(step, bool) and math.isfinite(step) and step >= 0
        except (ValueError, KeyError):
            good = False
        if good:
            rows.append(row)
        elif number < len(lines):  # lines that were finished end in a line break
            bad.append(number)
    if bad:
        named = ", ".join(map(str, bad[:5])) + (" ..." if len(bad) > 5 else "")
        tell(f"{path}: line {named} of the history cannot be read; the other steps are kept")
    return rows


def parse_yaml(text: str) -> Any:
    """Plain YAML: no tags of Python's, no aliases that blow up. ValueError says what is wrong."""
    import yaml

    if _depth(text) > MOST_DEPTH:  # the parser's time grows with the square of it
        raise ValueError(f"nested deeper than {MOST_DEPTH} levels")
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _bounded(node)
        return loader.construct_document(node)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:300]) from error
    except (TypeError, AttributeError, OverflowError) as error:  # odd keys, dates that do not exist
        raise ValueError(_reason(error)) from error
    finally:
        if loader is not None:
            loader.dispose()


def read_yaml(path: Path | str, what: str = "the file", cure: str | None = None) -> dict[str, Any]:
    """A YAML mapping with text keys. See `read_text` for the errors."""
    text = read_text(path, what, cure, MOST_YAML)
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise DataError(f"{what} cannot be read: {error}", where=path, next_command=cure) from error
    if not isinstance(value, Mapping):
        raise DataError(f"{what} holds no mapping (key: value)", where=path, next_command=cure)
    if odd := not_finite(value):
        raise DataError(f"{what} has a value that is not finite under {odd}", where=path, next_command=cure)
    return {str(key): item for key, item in value.items()}


def not_finite(value: Any, name: str = "") -> str:
    """The dotted name of the first number in nested mappings and lists that is NaN or infinite; "" where none is."""
    if isinstance(value, float):
        return "" if math.isfinite(value) else name or "its only value"
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    return next((odd for key, item in pairs if (odd := not_finite(item, f"{name}.{key}".lstrip(".")))), "")


def _bounded(root: Any) -> None:
    """ValueError for a YAML graph that is cyclic, too deep, or too large once its aliases are followed."""
    import yaml

    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: Any, depth: int) -> int:
        if depth > MOST_DEPTH:
            raise ValueError(f"nested deeper than {MOST_DEPTH} levels")
        if id(node) in open_nodes:
            raise ValueError("an alias refers to what it is a part of")
        if id(node) in sizes:
            return sizes[id(node)]
        open_nodes.add(id(node))
        total = 1
        if isinstance(node, yaml.MappingNode):
            total += sum(size(key, depth + 1) + size(value, depth + 1) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            total += sum(size(item, depth + 1) for item in node.value)
        open_nodes.discard(id(node))
        sizes[id(node)] = total
        if total > MOST_YAML_NODES:
            raise ValueError(f"more than {MOST_YAML_NODES} values, aliases included")
        return total

    size(root, 0)


def _depth(text: str) -> int:
    """The deepest nesting of brackets outside of strings."""
    deepest = depth = 0
    inside = escaped = False
    if text.count("[") + text.count("{") <= MOST_DEPTH:
        return 0
    for letter in text:
        if inside:
            if escaped:
                escaped = False
            elif letter == "\\":
                escaped = True
            elif letter == '"':
                inside = False
        elif letter == '"':
            inside = True
        elif letter in "[{":
            depth += 1
            if depth > deepest:
                deepest = depth
                if deepest > MOST_DEPTH:
                    break
        elif letter in "]}":
            depth -= 1
    return deepest


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no number that JSON has")


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(f"{word[:40]} is too large")
    return value


def _reason(error: BaseException) -> str:
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
