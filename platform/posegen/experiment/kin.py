"""Stages that another run has done: of two runs that differ in little most are the same, and are not done twice.

A stage is known by the digest of all that it depends on, so what is taken over is what would have been made.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from posegen.config import PosegenConfig, run_path
from posegen.errors import DataError
from posegen.experiment.run_folders import is_run, resolve_run
from posegen.experiment.stages import RunFolder, read_marker
from posegen.files.atomic import writing

_TARGET = "target"
# The folders that a stage fills, by the first word of its name. An arm's rows are rendered while they are trained on.
_FILLS = {
    "dataset": ("dataset",), "candidates": ("candidates",), "generate": ("generate",),
    "finetune": ("finetune", "dataset"), "evaluate": ("evaluation",), "watch": ("watched",),
}  # fmt: skip
# Written whole, then only read or replaced: two runs share them.
_NEVER_CHANGED = (".parquet", ".pt", ".npz", ".npy", ".png")


class Kin:
    """Another run, which is only read.

    Args:
        path: its directory. DataError where there is none.
    """

    def __init__(self, path: Path) -> None:
        if not is_run(path):
            raise DataError("stages are taken over from a run", where=path)
        self.path, self.name = path, path.name

    def lend(self, stage: str, digest: str, run: RunFolder) -> bool:
        """Makes a stage done in a run, if it was done here from all the same: large files are hard links, or copies
        where the file system has none. What a killed call leaves does not count as done."""
        marker, made = read_marker(self.path, stage), _made_by(stage)
        if marker is None or marker.get("digest") != digest or not (self.path / made[0]).exists():
            return False
        with writing(run.path):
            for part in made:
                _take_over(self.path / part, run.path / part)
        run.run_stage(stage, digest, lambda: {"made_in": self.name, **marker, "seconds": 0.0})
        return True


def kin_of(config: PosegenConfig) -> list[Kin]:
    """The runs that `run.kin` names. ConfigError for one that is not there or not finished."""
    outputs, ours = Path(config.run.outputs).expanduser(), run_path(config).resolve()
    found = (resolve_run(word, outputs) for word in config.run.kin)
    return [Kin(path) for path in found if path != ours]


def _made_by(stage: str) -> list[str]:
    """What a stage makes, relative to its run's directory; the first part is there after any of its kind."""
    kind, _, rest = stage.partition("/")
    if kind == _TARGET:
        return [f"{stage}.json" if rest else _TARGET]
    return [f"{folder}/{rest}" for folder in _FILLS[kind]]


def _take_over(made: Path, place: Path) -> None:
    if place.is_symlink():  # it may lead to what is taken over
        place.unlink()
    place.parent.mkdir(parents=True, exist_ok=True)
    if made.is_dir():
        shutil.copytree(made, place, copy_function=_link, dirs_exist_ok=True)
    elif made.exists():
        _link(str(made), str(place))


def _link(made: str, place: str) -> None:
    Path(place).unlink(missing_ok=True)
    if made.endswith(_NEVER_CHANGED):
        try:
            os.link(made, place)
            return
        except OSError:
            pass  # a file system without links, or another one
    shutil.copy2(made, place)
