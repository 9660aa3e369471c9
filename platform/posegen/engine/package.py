"""Packs the working directory of a job: code and configuration, nothing heavy, nothing secret.

The archive is byte-for-byte the same for the same files (sorted names, fixed times), so that a cluster that already
has it is not sent it again.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posegen.engine.private_ray import ignore_patterns
from posegen.errors import EngineError

EXCLUDES: tuple[str, ...] = (
    # results and caches: a cluster makes its own
    ".git", ".venv", "venv", "__pycache__", "*.py[cod]", "*.egg-info", ".*_cache", ".hypothesis", "/build", "/dist",
    "/outputs", "/mlruns", "/multirun", "mlflow.db*", "*.parquet", "*.arrow", "/core.[0-9]*",
    # not needed to run a job
    "/docs", "/tests", "/.ci",
)  # fmt: skip
# These never travel with the code, nodes get them from their own environment. Only a `!` in .rayignore takes one back.
SECRETS: tuple[str, ...] = (".env", "*.env", "auth_token", "*.pem", "*.key", "id_rsa*", ".netrc")
RESULTS = ("run.outputs", "engine.storage")  # settings whose folders are written, not read
DEFAULT_LIMIT_MB = 64.0
_MB = 1e6
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold


@dataclass(frozen=True)
class Package:
    """What was packed: the archive, its files and their size before compression."""

    archive: Path
    files: tuple[str, ...]
    size_mb: float


@dataclass(frozen=True)
class _Rules:
    """Patterns that hold below a folder, in the order of their lines."""

    folder: Path
    lines: tuple[str, ...]
    patterns: tuple[Any, ...]


def _rules(folder: Path, lines: Sequence[str]) -> _Rules:
    return _Rules(folder, tuple(lines), ignore_patterns(lines))


def _is_left_out(path: Path, suffix: str, rules: Sequence[_Rules]) -> bool:
    """The last pattern that fits decides, as in git: a later `!name` takes back what an earlier one left out."""
    out = False
    for rule in rules:
        name = f"{path.relative_to(rule.folder).as_posix()}{suffix}"
        for pattern in rule.patterns:
            if pattern.include is not None and pattern.regex.match(name):
                out = pattern.include
    return out


def listed_files(root: Path, excludes: Sequence[str] = EXCLUDES) -> Iterator[Path]:
    """Files under `root`, sorted, less `excludes`, what each folder's .gitignore and .rayignore name, and secrets.

    What .rayignore says counts last, for it speaks of jobs: `!weights/spin.pt` there sends a file that git ignores.
    """
    before, secrets = _rules(root, excludes), _rules(root, SECRETS)

    def walk(folder: Path, git: list[_Rules], ray: list[_Rules]) -> Iterator[Path]:
        git, ray = [*git, *_rules_in(folder, ".gitignore")], [*ray, *_rules_in(folder, ".rayignore")]
        rules = [before, *git, secrets, *ray]
        for path in sorted(folder.iterdir()):
            if path.is_symlink() and not path.exists():
                continue
            if path.is_dir():
                out = _is_left_out(path, "/", rules)
                # a link to a folder could lead out of the tree, or round in a circle
                if not path.is_symlink() and not (out and not _taken_back_below(path, ray)):
                    yield from walk(path, git, ray)
            elif path.is_file() and not _is_left_out(path, "", rules):
                yield path

    yield from walk(root, [], [])


def _rules_in(folder: Path, name: str) -> list[_Rules]:
    file = folder / name
    return [_rules(folder, file.read_text(errors="replace").splitlines())] if file.is_file() else []


def _taken_back_below(folder: Path, rules: Sequence[_Rules]) -> bool:
    """Whether .rayignore names something inside a folder that is left out: `!weights/spin.pt` for `weights`."""
    return any(
        line.startswith("!") and line[1:].lstrip("/").startswith(f"{folder.relative_to(rule.folder).as_posix()}/")
        for rule in rules
        for line in rule.lines
    )


def left_out(root: Path, overrides: Sequence[str], excludes: Sequence[str] = EXCLUDES) -> None:
    """EngineError where a setting names a file of the working directory that would not be sent with it."""
    packed: set[str] | None = None
    for word in overrides:
        key, _, value = word.partition("=")
        value = value.strip("'\"")
        looks_like_path = "/" in value or Path(value).suffix
        if key in RESULTS or not looks_like_path or Path(value).is_absolute() or value.startswith("~"):
            continue
        try:
            path = Path(os.path.normpath(root / value))
            there = path.exists() and path != root
        except (OSError, ValueError):
            continue
        if not there:
            continue
        if packed is None:
            packed = {file.relative_to(root).as_posix() for file in listed_files(root, excludes)}
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else None
        if name is None or not any(file == name or file.startswith(f"{name}/") for file in packed):
            raise EngineError(
                f"{value} is on this machine and would not be sent with the job",
                where=key,
                next_command=f"echo '!/{name}' >> .rayignore   # sends it; or a path that all machines have"
                if name
                else "a path inside the working directory, or one that all machines have",
            )


def pack(
    working_dir: Path,
    into: Path,
    excludes: Sequence[str] = EXCLUDES,
    limit_mb: float = DEFAULT_LIMIT_MB,
    beside: Mapping[str, Path] | None = None,
) -> Package:
    """Writes `into`/posegen.zip. Raises EngineError that names the largest files when there is too much.

    Args:
        beside: folders that are sent with the working directory, by the place that they get in it; where both have a
            file, the working directory's counts.
    """
    working_dir = working_dir.resolve()
    if not working_dir.is_dir():
        raise EngineError("the working directory does not exist", where=working_dir, next_command="pass --working-dir")
    named = {path.relative_to(working_dir).as_posix(): path for path in listed_files(working_dir, excludes)}
    for place, folder in (beside or {}).items():
        for path in listed_files(folder.resolve(), excludes):
            named.setdefault(f"{place}/{path.relative_to(folder.resolve()).as_posix()}", path)
    sizes = {name: named[name].stat().st_size for name in sorted(named)}
    total_mb = sum(sizes.values()) / _MB
    if total_mb > limit_mb:
        largest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
        told = "".join(f"\n    {size / _MB:8.1f} MB  {name}" for name, size in largest)
        raise EngineError(
            f"the working directory has {total_mb:.1f} MB to send, more than the limit of {limit_mb:g} MB; "
            f"the largest files:{told}",
            where=working_dir,
            next_command="add them to .rayignore, or raise the limit with --limit-mb",
        )
    archive = into / "posegen.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for name in sizes:
            path, entry = named[name], zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            executable = path.stat().st_mode & stat.S_IXUSR
            entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
            out.writestr(entry, path.read_bytes())
    return Package(archive, tuple(sizes), total_mb)
