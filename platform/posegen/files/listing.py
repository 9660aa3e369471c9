"""Files of a folder by pattern, without those that nobody put there: `._NAME` of macOS, `.DS_Store`, `__MACOSX`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path


def visible(paths: Iterable[Path], below: Path) -> Iterator[Path]:
    """Those of the paths of which no part under `below` starts with a dot or is `__MACOSX`."""
    for path in paths:
        if not any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(below).parts):
            yield path


def files_matching(folder: Path, pattern: str) -> list[Path]:
    """Files below a folder that match, in order of name; `pattern` as of pathlib (`**/*.npz` looks into subfolders)."""
    return sorted(visible(folder.glob(pattern), folder))
