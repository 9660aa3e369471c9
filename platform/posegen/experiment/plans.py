"""What each stage is to make, and the digest of everything that this depends on: functions of the configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from posegen.arms.registry import Arm
from posegen.arms.rows import SOURCE_ARM, RowRenderer, SourceRenderer
from posegen.config import ArmTask, PosegenConfig, parts_of, plain
from posegen.config.task import TargetFiles
from posegen.errors import ConfigError
from posegen.estimator.configured import crop_of_config
from posegen.experiment.rendering import Rendering
from posegen.experiment.stages import RunFolder, digest_of, file_digest
from posegen.experiment.work import Training
from posegen.target.given import is_given

# What the rows of a data set depend on; the rest of the configuration may change without rendering them again.
ROW_KEYS = (
    "seed", "image_size", "body", "mocap", "background", "renderer", "estimator", "noise", "generator", "split",
)  # fmt: skip


@dataclass(frozen=True)
class ArmRound:
    """One round of one arm: generate, fine-tune.

    Attributes:
        index: counts from 0.
        of: how many rounds the arm has; they share its images and steps.
        weights: of the estimator at the beginning; None takes those of the configuration.
        earlier: of the estimator at the beginning of the round before.
        target: the user's own domain, for arms that are shown it.
    """

    arm: Arm
    index: int = 0
    of: int = 1
    weights: Path | None = None
    earlier: Path | None = None
    target: TargetFiles | None = None

    def stage(self, kind: str) -> str:
        """`finetune/posegen`, and `finetune/posegen-round2` from the second round on."""
        return f"{kind}/{self.arm.name}" + ("" if self.index == 0 else f"-round{self.index + 1}")

    def title(self, what: str) -> str:
        return f"{what} {self.arm.name}" + (f" round {self.index + 1}" if self.of > 1 else "")

    def task(self, config: PosegenConfig) -> ArmTask:
        """What a worker of this round receives."""
        config = configured(self.arm, config, self.target is not None)
        task = ArmTask(config, self.arm.name).at(self.index, self.weights)
        return replace(task, target=self.target, earlier_weights=None if self.earlier is None else str(self.earlier))

    def target_digest(self, config: PosegenConfig) -> list[Any]:
        """Of what the target brings to this round; empty without one."""
        if self.target is None:
            return []
        files = [file_digest(file) for file in (self.target.people, self.target.lifted)]
        weights = file_digest(self.target.weights) if self.target.weights else None
        return [files, weights, parts_of(config, "target")]


def configured(arm: Arm, config: PosegenConfig, shown: bool) -> PosegenConfig:
    """The configuration as an arm has it. One that is not shown the target has none in its batches either."""
    config = arm.configure(config)
    return config if shown else replace(config, finetune=replace(config.finetune, target_share=0.0))


def selects(config: PosegenConfig, arm: Arm) -> bool:
    """Whether an arm's rows are chosen among candidates."""
    return arm.selects and config.dataset.selection.chooses and (is_given(config.target) or not arm.shown_target)


class Plans:
    """The plans of a run.

    Args:
        command: what a user types to go on with the run; shards carry it.
    """

    def __init__(self, config: PosegenConfig, run: RunFolder, command: str) -> None:
        self.config, self.run, self.command = config, run, command

    # -- rows ----------------------------------------------------------------------------------------------------

    def source(self) -> Rendering:
        """Rows of the source's own kind."""
        rows = self.config.dataset.source_images
        return self._rendering(SourceRenderer, self.config, rows, f"dataset/{SOURCE_ARM}", self.source_digest())

    def source_digest(self) -> str:
        parts = parts_of(self.config, "seed", "image_size", "split")
        crop = crop_of_config(self.config)
        parts["source"] = self.config.estimator.source
        if crop.reframes:
            parts["crop"] = vars(crop)
        return digest_of(self.config.dataset.source_images, parts)

    def rows(self, turn: ArmRound, generator: Path | None = None, chosen: Path | None = None) -> Rendering:
        """An arm's rows, with the files that they are made from."""
        task = turn.task(self.config)
        files = [str(file) if file else None for file in (generator, chosen)]
        task = replace(task, generator_file=files[0], chosen_file=files[1])
        inputs = [file_digest(file) for file in files if file]
        dataset = self.config.dataset
        rows = dataset.images // turn.of
        digest = digest_of(
            turn.arm.name, rows, turn.index, dataset.random_share, inputs,
            parts_of(task.config, *ROW_KEYS, *turn.arm.row_keys), *turn.target_digest(self.config),
        )  # fmt: skip
        return self._rendering(RowRenderer, task, rows, turn.stage("dataset"), digest)

    def candidates(self, turn: ArmRound, generator: Path | None = None) -> Rendering:
        """The candidates that an arm which selects chooses its rows from: more of its own."""
        planned = self.rows(turn, generator)
        settings = self.config.dataset.selection
        rows = planned.rows * settings.factor
        task = replace(planned.config, measured_by=settings.error)
        digest = digest_of(planned.fingerprint, rows, settings.error, weights_digest(turn.weights))
        return self._rendering(RowRenderer, task, rows, turn.stage("candidates"), digest)

    def selects(self, arm: Arm) -> bool:
        """See `selects`."""
        return selects(self.config, arm)

    def online_rows(self, turn: ArmRound) -> Rendering:
        """Rows that are rendered while their generator is trained."""
        task = replace(turn.task(self.config), online=True)
        dataset = self.config.dataset
        rows = dataset.images // turn.of
        generated, _, _ = task.config.finetune.parts()
        block = generated // self.config.engine.finetune_workers  # what a worker uses in one step
        if block < 1:
            raise ConfigError(
                "no generated rows are left in a fine-tuning worker's batch", where="finetune.source_share",
                next_command="lower finetune.source_share or engine.finetune_workers",
            )  # fmt: skip
        digest = digest_of(
            "overlap", turn.arm.name, rows, block, dataset.random_share, dataset.freshness, self._generator_digest(turn)
        )
        planned = self._rendering(RowRenderer, task, rows, turn.stage("dataset"), digest)
        return replace(planned, rows_per_block=min(rows, block))

    # -- trainings -----------------------------------------------------------------------------------------------

    def generator(self, turn: ArmRound) -> Training:
        """The training of an arm's generator against the estimator."""
        settings = self.config.adversarial
        task = replace(turn.task(self.config), gallery=str(self.run.path / turn.stage("generate") / "gallery"))
        return self._training(
            "adversarial", task, turn.stage("generate"), self._generator_digest(turn),
            settings.steps, settings.checkpoint_every,
        )  # fmt: skip

    def finetuning(self, turn: ArmRound, rows: Rendering | None) -> Training:
        """The fine-tuning on an arm's rows; None: on source and target alone."""
        task = replace(turn.task(self.config), source_rows=str(self.run.folder("dataset", SOURCE_ARM)))
        settings = replace(task.config.finetune, steps=task.config.finetune.steps // turn.of)
        task = replace(task, config=replace(task.config, finetune=settings))
        weak = turn.target_digest(self.config) if settings.target_share > 0 else []
        made = rows.fingerprint if rows is not None else turn.arm.name
        digest = digest_of(made, plain(settings), self.config.seed, self.source_digest(), *weak)
        return self._training(
            "finetune", task, turn.stage("finetune"), digest, settings.steps, settings.checkpoint_every
        )

    def _generator_digest(self, turn: ArmRound) -> str:
        """Of all that the training of a generator depends on."""
        parts = parts_of(turn.task(self.config).config, *ROW_KEYS, "feedback", "adversarial", *turn.arm.row_keys)
        earlier = [] if turn.earlier is None else [weights_digest(turn.earlier)]
        return digest_of(parts, turn.index, weights_digest(turn.weights), *earlier, *turn.target_digest(self.config))

    # -- pieces --------------------------------------------------------------------------------------------------

    def _training(
        self, kind: str, task: ArmTask, stage: str, digest: str, steps: int, checkpoint_every: int
    ) -> Training:
        storage = self.config.engine.storage or str(self.run.folder("checkpoints"))
        return Training(kind, task, stage, digest, steps, checkpoint_every, self.run.path / stage, storage)

    def _rendering(self, factory: Callable, given: Any, rows: int, folder: str, digest: str) -> Rendering:
        engine = self.config.engine
        return Rendering(
            factory=factory,
            config=given,
            rows=rows,
            rows_per_block=min(rows, self.config.dataset.rows_per_block),
            actors=engine.render_actors,
            num_cpus=engine.cpus_per_renderer,
            num_gpus=engine.gpus_per_renderer,
            folder=str(self.run.folder(*folder.split("/"))),
            buffer_mb=engine.buffer_mb,
            fingerprint=digest,
            command=self.command,
        )


def weights_digest(weights: Path | None) -> str | None:
    return None if weights is None else file_digest(weights)
