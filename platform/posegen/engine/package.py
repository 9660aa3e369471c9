"""Packs the working directory of a job: code and configuration, nothing heavy, nothing secret.

The archive is byte-for-byte the same for the same files (sorted names, fixed times), so that a cluster that already
has it is not sent it again.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from posegen.errors import EngineError

EXCLUDES: tuple[str, ...] = (
    # results and caches: a cluster makes its own
    ".git", ".venv", "venv", "__pycache__", "*.py[cod]", "*.egg-info", ".*_cache", ".hypothesis", "/build", "/dist",
    "outputs", "mlruns", "mlflow.db*", "multirun", "*.parquet", "*.arrow", "core.*",
    # not needed to run a job
    "/docs", "/tests", "/.ci",
    # secrets never travel with the code; nodes get them from their own environment
    ".env", "*.env", "auth_token", "*.pem", "*.key", "id_rsa*", ".netrc",
)  # fmt: skip
DEFAULT_LIMIT_MB = 64.0
_MB = 1e6
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold


@dataclass(frozen=True)
class Package:
    """What was packed: the archive, its files and their size before compression."""

    archive: Path
    files: tuple[str, ...]
    size_mb: float


def _matcher(patterns: Sequence[str]):
    # ray's own copy of pathspec: what is left out here is what plain `ray job submit` leaves out
    from ray._private.thirdparty.pathspec import PathSpec

    return PathSpec.from_lines("gitwildmatch", patterns)


def listed_files(root: Path, excludes: Sequence[str] = EXCLUDES) -> Iterator[Path]:
    """Files under `root`, sorted, less `excludes` and what each folder's .gitignore and .rayignore name."""

    def walk(folder: Path, rules: list) -> Iterator[Path]:
        for name in (".gitignore", ".rayignore"):
            if (folder / name).is_file():
                rules = [*rules, (folder, _matcher((folder / name).read_text().splitlines()))]
        for path in sorted(folder.iterdir()):
            if path.is_symlink() and not path.exists():
                continue
            suffix = "/" if path.is_dir() else ""
            if any(spec.match_file(f"{path.relative_to(base).as_posix()}{suffix}") for base, spec in rules):
                continue
            if path.is_dir():
                if not path.is_symlink():  # a link to a folder could lead out of the tree, or round in a circle
                    yield from walk(path, rules)
            elif path.is_file():
                yield path

    yield from walk(root, [(root, _matcher(list(excludes)))])


def pack(
    working_dir: Path, into: Path, excludes: Sequence[str] = EXCLUDES, limit_mb: float = DEFAULT_LIMIT_MB
) -> Package:
    """Writes `into`/posegen.zip. Raises EngineError that names the largest files when there is too much."""
    working_dir = working_dir.resolve()
    if not working_dir.is_dir():
        raise EngineError("the working directory does not exist", where=working_dir, next_command="pass --working-dir")
    sizes = {path: path.stat().st_size for path in listed_files(working_dir, excludes)}
    total_mb = sum(sizes.values()) / _MB
    if total_mb > limit_mb:
        largest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
        named = "".join(f"\n    {size / _MB:8.1f} MB  {path.relative_to(working_dir)}" for path, size in largest)
        raise EngineError(
            f"the working directory has {total_mb:.1f} MB to send, more than the limit of {limit_mb:g} MB; "
            f"the largest files:{named}",
            where=working_dir,
            next_command="add them to .rayignore, or raise the limit with --limit-mb",
        )
    archive = into / "posegen.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sizes:
            entry = zipfile.ZipInfo(path.relative_to(working_dir).as_posix(), _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            executable = path.stat().st_mode & stat.S_IXUSR
            entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
            out.writestr(entry, path.read_bytes())
    return Package(archive, tuple(path.relative_to(working_dir).as_posix() for path in sizes), total_mb)
