"""Files that a user names on a command line: what is there already is not written over, unless that is asked for.

Asked before the work begins, so that an evaluation of an hour does not end with a refusal.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from posegen.errors import ConfigError, DataError
from posegen.files.atomic import write_text

OVERWRITE = "--overwrite"


def free(path: Path | str, overwrite: bool = False, flag: str = OVERWRITE) -> Path:
    """The path, `~` expanded, if a file may be written there. DataError where one is, without `overwrite`.

    Args:
        flag: what a user adds to have it written over.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise DataError("this is a folder; name a file", where=path)
    if not overwrite and (path.is_file() or path.is_symlink()):
        raise DataError(
            "there is such a file; it is not written over", where=path,
            next_command=f"name another file, or add {flag}",
        )  # fmt: skip
    return path


def write_result(path: Path | str, text: str, overwrite: bool = False) -> Path:
    """Writes a text, whole or not at all; see `free`."""
    return write_text(free(path, overwrite), text)


def split_result(argv: Sequence[str], option: str, help_command: str) -> tuple[list[str], Path | None]:
    """The words without `option FILE` (or option=FILE) and --overwrite, and the file, which is free.

    For commands whose other words are overrides, which argparse would take apart.
    """
    rest, named, words = [], None, iter(argv)
    for word in words:
        if word == option or word.startswith(f"{option}="):
            named = word.removeprefix(f"{option}=") if "=" in word else next(words, "")
            if not named:
                raise ConfigError(f"{option} needs a file", where=option, next_command=help_command)
        else:
            rest.append(word)
    overwrite = OVERWRITE in rest
    return [word for word in rest if word != OVERWRITE], None if named is None else free(named, overwrite)
