"""Which folders are run directories, found without reading them. A run's name may hold slashes, such as exp/r1."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from posegen.errors import ConfigError
from posegen.files.names import RESERVED

RUN_FILE = "run.json"
SUMMARY = "summary.json"


def is_run(path: Path) -> bool:
    """Whether a folder is a run directory: it has a record, or looks like those made before there were records."""
    if not path.is_dir() or path.is_symlink():
        return False
    return (path / RUN_FILE).is_file() or is_old(path)


def is_old(path: Path) -> bool:
    """Whether a folder looks like a run directory of before there were records."""
    return (path / "stages").is_dir() and not (path / "stages").is_symlink() and (path / "config.yaml").is_file()


def is_finished(path: Path) -> bool:
    """Whether a run directory has come to its end; other folders have a summary of their own."""
    return (path / SUMMARY).is_file() and is_run(path)


def runs_in(outputs: Path) -> list[Path]:
    """Directories of all runs, by name; links (`latest` is one) lead to no run of their own."""
    return list(_below(outputs, RESERVED))


def _below(folder: Path, left_out: tuple[str, ...] = ()) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    for name in names:
        if name.startswith(".") or name.lower() in left_out:
            continue
        if is_run(folder / name):
            yield folder / name
        else:
            yield from _below(folder / name)


def finished_runs(outputs: Path) -> list[Path]:
    """Directories of finished runs, the newest last."""
    return sorted(filter(is_finished, runs_in(outputs)), key=lambda path: (path / SUMMARY).stat().st_mtime)


def name_in(outputs: Path, path: Path) -> str:
    """What a run is called by in a folder of outputs; its path where it is elsewhere."""
    try:
        return path.resolve().relative_to(outputs.resolve()).as_posix()
    except ValueError:
        return str(path)


def find_run(word: str, outputs: Path) -> Path | None:
    """A run, finished or not, by its directory or by its name in the outputs folder; a link, such as `latest`, is
    followed. Of two, the finished one."""
    runs = [path.resolve() for path in (Path(word), outputs / word) if path.is_dir() and is_run(path.resolve())]
    return next(filter(is_finished, runs), runs[0] if runs else None)


def no_run(said: str, outputs: Path, runs: Iterable[Path]) -> ConfigError:
    """What is told where a run is asked for that is not there, with those there are."""
    names = [name_in(outputs, run) for run in runs]
    return ConfigError(said, where=outputs, choices=names, next_command="posegen run   # makes one")


def resolve_run(word: str, outputs: Path) -> Path:
    """A finished run by its directory or by its name in the outputs folder. Raises ConfigError with those there are."""
    run = find_run(word, outputs)
    if run is None:
        raise no_run(f"no finished run {word!r}", outputs, finished_runs(outputs))
    if not is_finished(run):
        from posegen.experiment.going_on import go_on  # what only an error needs is not loaded to complete a word

        raise ConfigError(f"the run {word!r} is not finished", where=run, next_command=go_on(run))
    return run
