"""What `posegen atlas` was asked for: whose errors, on which scenes, against which weights, and where it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from posegen.arms.registry import BEFORE, arm_of
from posegen.atlas.clusters import POOL, TARGET
from posegen.atlas.config import AtlasConfig
from posegen.config import PosegenConfig, compose, parts_of, plain
from posegen.config_types import typed
from posegen.errors import ConfigError, DataError
from posegen.estimator.configured import crop_of_config
from posegen.experiment.plans import ROW_KEYS, ArmRound, weights_digest
from posegen.experiment.stages import digest_of, file_digest
from posegen.target.lifted import LIFTED

FOLDER = "atlas"  # in the outputs, and in a run
ARM_OF = {POOL: "random", TARGET: "anchors"}  # which arm proposes a source's scenes
# With run=NAME all else is the run's own.
FREE = ("atlas", "engine", "run", "tracking", "target")


@dataclass(frozen=True)
class AtlasPlan:
    """One atlas.

    Attributes:
        config: scenes and estimator.
        words: of the command line, for what is told to type.
        after: weights to compare with; after_label: what they are called.
        run: the run directory that the atlas is of, if any.
    """

    config: PosegenConfig
    words: tuple[str, ...] = ()
    after: Path | None = None
    after_label: str = "after"
    run: Path | None = None

    @property
    def settings(self) -> AtlasConfig:
        return self.config.atlas

    @property
    def sources(self) -> dict[str, int]:
        """source -> how many scenes are drawn from it."""
        drawn = {POOL: self.settings.scenes}
        return drawn | {TARGET: self.settings.target_scenes} if self.config.target.lifted else drawn

    @property
    def outputs(self) -> Path:
        return Path(self.config.run.outputs).expanduser()

    @property
    def folder(self) -> Path:
        """Where page and numbers go: as told, into the run, or named by estimator, scenes and settings."""
        if self.settings.output:
            return Path(self.settings.output).expanduser()
        if self.run is not None:
            return self.run / FOLDER
        about = [self.scene_digest(source) for source in self.sources]
        key = digest_of(about, self.measured_key(None), weights_digest(self.after), plain(self.settings))
        return self.outputs / FOLDER / f"{self.config.estimator.name}-{key}"

    def scene_digest(self, source: str) -> str:
        """Of all that a source's pictures depend on; the estimator matters by its crop alone."""
        config, crop = self.config, crop_of_config(self.config)
        parts = parts_of(config, *(key for key in ROW_KEYS if key != "estimator"))
        if source == TARGET:
            lifted = config.target.lifted
            parts["target"] = {**plain(config.target), "lifted": file_digest(lifted) if lifted else None}
        return digest_of(ARM_OF[source], self.sources[source], parts, vars(crop) if crop.reframes else None)

    def scene_folder(self, source: str) -> Path:
        return self.outputs / FOLDER / "scenes" / f"{source}-{self.scene_digest(source)}"

    def measured_key(self, weights: Path | None) -> str:
        """Of the estimator and its weights."""
        own = self.config.estimator.checkpoint
        parts = parts_of(self.config, "estimator", "body")
        return digest_of(parts, weights_digest(weights), file_digest(own) if own else None)


def plan_of(words: Sequence[str]) -> AtlasPlan:
    """From the command line's words, among them `run=NAME` and `after=FILE`. Raises ConfigError."""
    name = next((word.removeprefix("run=") for word in reversed(words) if word.startswith("run=")), None)
    rest = [f"atlas.{word}" if word.startswith(("after=", "arm=", "scenes=")) else word for word in words
            if not word.startswith("run=")]  # fmt: skip
    config = compose(rest)
    after = Path(config.atlas.after) if config.atlas.after else None
    if name is None:
        if config.atlas.arm is not None:
            raise ConfigError("an arm is of a run", where="atlas.arm", next_command="posegen atlas run=NAME arm=ARM")
        return AtlasPlan(config, tuple(words), after, after.stem if after else "after")
    strange = [word for word in rest if word.lstrip("+~").partition("=")[0].partition(".")[0] not in FREE]
    if strange:
        raise ConfigError(
            "with run=NAME estimator and scenes are the run's own", where=" ".join(strange),
            choices=[f"{part}.*" for part in FREE],
        )  # fmt: skip
    told_target = any(word.startswith("target") for word in words)
    return _of_run(name, config, tuple(words), after, told_target)


def _of_run(
    name: str, config: PosegenConfig, words: tuple[str, ...], after: Path | None, told_target: bool
) -> AtlasPlan:
    from posegen.experiment.run_folders import resolve_run
    from posegen.tracking.report.run_directory import RunDirectory
    from posegen.tracking.report.style import arm_look

    path = resolve_run(name, Path(config.run.outputs).expanduser())
    run = RunDirectory(path)
    own = config_of_run(run.config, config, told_target)
    lifted = path / "target" / LIFTED
    if not told_target and lifted.is_file():  # what the run has lifted is not lifted again
        own = replace(own, target=replace(own.target, lifted=str(lifted.absolute()), embedded=()))
    if after is not None:
        return AtlasPlan(own, words, after, after.stem, path)
    arm = config.atlas.arm or run.method
    if arm is None:
        return AtlasPlan(own, words, run=path)
    tuned = [known for known in run.arms if known != BEFORE]
    if arm not in tuned:
        raise ConfigError(f"the run has no fine-tuned arm {arm!r}", where="atlas.arm", choices=tuned)
    return AtlasPlan(own, words, weights_of(path, arm, own.rounds), arm_look(arm).label, path)


def config_of_run(stored: Mapping[str, Any], given: PosegenConfig, told_target: bool) -> PosegenConfig:
    """A run's own configuration; the parts that are free are those of the command.

    Args:
        told_target: whether the command names a target; else it is the run's.
    """
    kept = set(FREE) - (set() if told_target else {"target"})
    known = {key: value for key, value in stored.items() if key not in kept}
    own = typed(PosegenConfig, _as_today(known), "the run's configuration")
    return replace(own, **{key: getattr(given, key) for key in kept})


def _as_today(stored: dict[str, Any]) -> dict[str, Any]:
    """Settings of an older run by their names of today: `renderer.options` was `renderer.anerf`."""
    renderer = stored.get("renderer")
    if not isinstance(renderer, Mapping) or "anerf" not in renderer:
        return stored
    kept = {key: value for key, value in renderer.items() if key != "anerf"}
    return {**stored, "renderer": {"options": renderer["anerf"], **kept}}


def weights_of(run: Path, arm: str, rounds: int) -> Path:
    """The file of an arm's weights after its last round. Raises DataError if it is not there."""
    found = arm_of(arm)
    last = ArmRound(found, rounds - 1 if found.follows else 0, rounds)
    file = run / last.stage("finetune") / "estimator.pt"
    if not file.is_file():
        raise DataError(
            f"the weights of arm {arm!r} are not there",
            where=file,
            next_command=f"posegen finetune run.name={run.name}",
        )
    return file
