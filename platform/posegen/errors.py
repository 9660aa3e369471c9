"""Errors a user can act on: what went wrong, where, the valid choices, and the command to type next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PosegenError(Exception):
    """A problem with the user's input or machine, told in full.

    Args:
        what: one sentence that says what is wrong.
        where: the file, key or stage it is about.
        choices: the values that would have been valid.
        next_command: what to type now.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object | None = None,
        choices: Iterable[object] | None = None,
        next_command: str | None = None,
    ) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.choices = None if choices is None else [str(choice) for choice in choices]
        self.next_command = next_command
        super().__init__(self.message())

    def message(self) -> str:
        lines = [self.what]
        if self.where is not None:
            lines.append(f"  where: {self.where}")
        if self.choices is not None:
            lines.append(f"  valid choices: {', '.join(self.choices) or '(none)'}")
        if self.next_command is not None:
            lines.append(f"  next: {self.next_command}")
        return "\n".join(lines)

    def __reduce__(self):  # keeps all parts when Ray carries the error between processes
        return (_rebuild, (type(self), self.what, self.where, self.choices, self.next_command))


def _rebuild(cls, what, where, choices, next_command):
    return cls(what, where=where, choices=choices, next_command=next_command)


class AssetError(PosegenError):
    """An asset is missing, damaged or of another version than expected."""


class ConfigError(PosegenError):
    """A configuration key or value is wrong."""


class DataError(PosegenError):
    """A data file is missing, cut short, or does not hold what its format promises."""


class CheckpointError(PosegenError):
    """A checkpoint does not fit the architecture it is loaded into."""


class TrainingError(PosegenError):
    """A training went wrong in a way that smaller steps did not mend."""


class EngineError(PosegenError):
    """The cluster cannot do what it is asked."""


def closest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like a mistyped word, if any is near."""
    matches = difflib.get_close_matches(word, list(choices), n=1)
    return matches[0] if matches else None


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The end of a sentence about a mistyped word: the choice most like it, or nothing."""
    near = closest(word, choices)
    return f"; did you mean {near!r}?" if near else ""
