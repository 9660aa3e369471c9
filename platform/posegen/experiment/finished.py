"""Which runs a folder of outputs holds, found without reading them."""

from __future__ import annotations

from pathlib import Path

from posegen.errors import ConfigError


def runs_in(outputs: Path) -> list[Path]:
    """Directories of finished runs, the newest last; the symlink `latest` is no run of its own."""
    if not outputs.is_dir():
        return []
    found = [entry for entry in outputs.iterdir() if not entry.is_symlink() and (entry / "summary.json").is_file()]
    return sorted(found, key=lambda entry: (entry / "summary.json").stat().st_mtime)


def resolve_run(word: str, outputs: Path) -> Path:
    """A run by its directory or by its name in the outputs folder. Raises ConfigError with those there are."""
    for path in (Path(word), outputs / word):
        if (path / "summary.json").is_file():
            return path.resolve()
    from posegen.experiment.going_on import go_on  # what only an error needs is not loaded to complete a word
    from posegen.experiment.run_record import is_run

    for path in (Path(word), outputs / word):
        if is_run(path):
            raise ConfigError(f"the run {word!r} is not finished", where=path, next_command=go_on(path))
    names = [run.name for run in runs_in(outputs)]
    raise ConfigError(
        f"no finished run {word!r}", where=outputs, choices=names, next_command="posegen run   # makes one"
    )
