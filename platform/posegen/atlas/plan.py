"""What `posegen atlas` was asked for: whose errors, on which scenes, against which weights, and where it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posegen.atlas.clusters import POOL, TARGET
from posegen.atlas.config import AtlasConfig
from posegen.config_types import typed
from posegen.errors import ConfigError, DataError
from posegen.experiment.stage_names import ROW_KEYS, stage_name, weights_digest
from posegen.experiment.stages import digest_of, file_digest
from posegen.scenes.world import crop_of_config

FOLDER = "atlas"  # in the outputs, and in a run
ARM_OF = {POOL: "random", TARGET: "anchors"}  # which arm proposes a source's scenes
# With run=NAME all else is the run's own.
FREE = ("atlas", "engine", "run", "tracking", "target")


@dataclass(frozen=True)
class AtlasPlan:
    """One atlas.

    Attributes:
        config: the plain dict of posegen.config.PosegenConfig: scenes and estimator.
        words: of the command line, for what is told to type.
        after: weights to compare with; after_label: what they are called.
        run: the run directory that the atlas is of, if any.
    """

    config: dict[str, Any]
    words: tuple[str, ...] = ()
    after: Path | None = None
    after_label: str = "after"
    run: Path | None = None

    @property
    def settings(self) -> AtlasConfig:
        return typed(AtlasConfig, self.config["atlas"], "atlas")

    @property
    def sources(self) -> dict[str, int]:
        """source -> how many scenes are drawn from it."""
        drawn = {POOL: self.settings.scenes}
        return drawn | {TARGET: self.settings.target_scenes} if self.config["target"]["lifted"] else drawn

    @property
    def outputs(self) -> Path:
        return Path(self.config["run"]["outputs"]).expanduser()

    @property
    def folder(self) -> Path:
        """Where page and numbers go: as told, into the run, or named by estimator, scenes and settings."""
        if self.settings.output:
            return Path(self.settings.output).expanduser()
        if self.run is not None:
            return self.run / FOLDER
        about = [self.scene_digest(source) for source in self.sources]
        key = digest_of(about, self.measured_key(None), weights_digest(self.after), vars(self.settings))
        return self.outputs / FOLDER / f"{self.config['estimator']['name']}-{key}"

    def scene_digest(self, source: str) -> str:
        """Of all that a source's pictures depend on; the estimator matters by its crop alone."""
        config, crop = self.config, crop_of_config(self.config)
        parts = {key: config[key] for key in ROW_KEYS if key != "estimator"}
        if source == TARGET:
            parts["target"] = {**config["target"], "lifted": file_digest(config["target"]["lifted"]), "output": None}
        return digest_of(ARM_OF[source], self.sources[source], parts, vars(crop) if crop.reframes else None)

    def scene_folder(self, source: str) -> Path:
        return self.outputs / FOLDER / "scenes" / f"{source}-{self.scene_digest(source)}"

    def measured_key(self, weights: Path | None) -> str:
        """Of the estimator and its weights."""
        own = self.config["estimator"]["checkpoint"]
        return digest_of(
            self.config["estimator"], self.config["body"], weights_digest(weights), file_digest(own) if own else None
        )


def plan_of(words: Sequence[str]) -> AtlasPlan:
    """From the command line's words, among them `run=NAME` and `after=FILE`. Raises ConfigError."""
    from posegen.config import compose

    name = _value(words, "run=")
    rest = [f"atlas.{word}" if word.startswith(("after=", "arm=", "scenes=")) else word for word in words
            if not word.startswith("run=")]  # fmt: skip
    config = compose(rest)
    settings = typed(AtlasConfig, config["atlas"], "atlas")
    after = Path(settings.after) if settings.after else None
    if name is None:
        if settings.arm is not None:
            raise ConfigError("an arm is of a run", where="atlas.arm", next_command="posegen atlas run=NAME arm=ARM")
        return AtlasPlan(config, tuple(words), after, after.stem if after else "after")
    strange = [word for word in rest if word.lstrip("+~").partition("=")[0].partition(".")[0] not in FREE]
    if strange:
        raise ConfigError(
            "with run=NAME estimator and scenes are the run's own", where=" ".join(strange),
            choices=[f"{part}.*" for part in FREE],
        )  # fmt: skip
    return _of_run(name, config, settings, tuple(words), after)


def _of_run(
    name: str, config: dict[str, Any], settings: AtlasConfig, words: tuple[str, ...], after: Path | None
) -> AtlasPlan:
    from posegen.config import PosegenConfig, plain
    from posegen.tracking.compare.command import resolve_run
    from posegen.tracking.report.run_directory import RunDirectory

    path = resolve_run(name, Path(config["run"]["outputs"]).expanduser())
    run = RunDirectory(path)
    stored = {key: value for key, value in run.config.items() if key not in FREE}
    own = plain(typed(PosegenConfig, stored, "the run's configuration"))
    told = any(word.startswith("target") for word in words)
    target = config["target"] if told else run.config.get("target") or config["target"]
    own |= {key: config[key] for key in FREE} | {"target": target}
    if after is not None:
        return AtlasPlan(own, words, after, after.stem, path)
    arm = settings.arm or run.method
    if arm is None:
        return AtlasPlan(own, words, run=path)
    tuned = [known for known in run.arms if known != "before"]
    if arm not in tuned:
        raise ConfigError(f"the run has no fine-tuned arm {arm!r}", where="atlas.arm", choices=tuned)
    return AtlasPlan(own, words, _weights_of(path, arm, own), arm, path)


def _weights_of(run: Path, arm: str, config: Mapping[str, Any]) -> Path:
    last = int(config["rounds"]) - 1 if arm == "posegen" else 0
    file = run / stage_name("finetune", arm, last) / "estimator.pt"
    if not file.is_file():
        raise DataError(f"the weights of arm {arm!r} are not there", where=file, next_command="posegen finetune ...")
    return file


def _value(words: Sequence[str], key: str) -> str | None:
    found = [word.removeprefix(key) for word in words if word.startswith(key)]
    return found[-1] if found else None
