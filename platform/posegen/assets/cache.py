"""The cache folder: where it is, one writer at a time, and nothing half-written in it ever."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from posegen.errors import AssetError

MANIFEST = "manifest.json"


def cache_dir() -> Path:
    """The user's cache folder: $POSEGEN_CACHE, else $XDG_CACHE_HOME/posegen, else ~/.cache/posegen."""
    if path := os.environ.get("POSEGEN_CACHE"):
        return Path(path).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "posegen"


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def locked_file(path: Path, maker: str, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Holds a lock file in the cache. The operating system frees it when the process ends, however it ends.

    Args:
        path: the lock file; its folder is made.
        maker: who holds it while others wait, such as "another process prepares the assets".
        say: is given a line when it has to be waited for.

    Raises AssetError where the cache cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            if say:
                say(f"{maker}; waiting for it")
            lock.acquire()
    except OSError as error:
        raise AssetError(
            f"the cache folder cannot be written: {error.strerror or error}",
            where=path.parent,
            next_command="set POSEGEN_CACHE to a folder you may write, then posegen assets",
        ) from error
    try:
        yield
    finally:
        lock.release()


def locked(progress: Callable[[str], None] | None = None) -> AbstractContextManager[None]:
    """Holds the whole cache for this process."""
    return locked_file(cache_dir() / ".lock", "another process prepares the assets", progress)


@contextmanager
def fresh_directory(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place at the end, or vanishes if anything goes wrong."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield partial
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that takes its place at the end, or is removed if anything goes wrong."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def read_manifest() -> dict[str, dict[str, Any]]:
    """What the cache holds: name -> {file, sha256, recipe}. An unreadable manifest counts as an empty one."""
    try:
        entries = json.loads((cache_dir() / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}


def write_manifest(entries: dict[str, dict[str, Any]]) -> None:
    with replacing(cache_dir() / MANIFEST) as partial:
        partial.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")
