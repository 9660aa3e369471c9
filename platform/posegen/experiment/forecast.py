"""How long an experiment takes on this machine, said before it begins: its parts are tried once and multiplied."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch

from posegen.adversarial.loop import AdversarialLoop
from posegen.arms.registry import BEFORE, arm_of, names
from posegen.arms.rows import RowRenderer, SourceRenderer
from posegen.config import ArmTask, PosegenConfig
from posegen.estimator import trainable
from posegen.experiment.plans import selects
from posegen.finetune.loop import COLUMNS, FinetuneLoop
from posegen.shards.table import table_to_tensors
from posegen.target.config import TargetConfig

TRIED_ROWS = 8


@dataclass(frozen=True)
class Work:
    """What an experiment does, counted.

    Attributes:
        source_rows: mesh pictures of the source's kind.
        rows: rendered rows of all arms, candidates among them.
        steps: of fine-tuning, all arms together.
        generator_steps: of all trainings of a generator.
        measured: pictures of benchmarks and watched sets that an estimator answers.
    """

    source_rows: int
    rows: int
    steps: int
    generator_steps: int
    measured: int

    @classmethod
    def of(cls, config: PosegenConfig) -> Work:
        """Counts what a configuration asks for."""
        dataset = config.dataset
        arms = [arm_of(name) for name in dataset.arms if name != BEFORE]
        rows = 0
        for arm in arms:
            if arm.propose is None:
                continue  # on source and target alone
            rows += dataset.images
            if selects(config, arm):
                rows += dataset.images * dataset.selection.factor
        sets = len(config.evaluation.suite) + len(config.evaluation.watch)
        return cls(
            source_rows=dataset.source_images,
            rows=rows,
            steps=config.finetune.steps * len(arms),
            generator_steps=config.adversarial.steps * sum(arm.trains_generator for arm in arms),
            measured=(len(arms) + 1) * sets * config.evaluation.images,
        )


@dataclass(frozen=True)
class Costs:
    """Seconds, measured here: of a source row, a rendered row, a step of fine-tuning, of a generator, an answer."""

    source_row: float
    row: float
    step: float
    generator_step: float
    answer: float

    @classmethod
    def measured(cls, config: PosegenConfig, device: str | torch.device = "cpu") -> Costs:
        """Tries each part once, warm. Takes about as long as three steps of each."""
        # the target changes which scenes are made, not what one costs, and is not lifted yet
        config = replace(config, target=TargetConfig(), finetune=replace(config.finetune, target_share=0.0))
        ids = np.arange(TRIED_ROWS)
        source = SourceRenderer(config)
        mesh = _seconds(lambda: source(ids)) / TRIED_ROWS
        renderer = RowRenderer(ArmTask(config, names()[0]), device)  # the plainest arm: nothing is trained for it
        row = _seconds(lambda: renderer(ids)) / TRIED_ROWS
        estimator, size = renderer.estimator, config.image_size
        pictures = torch.zeros(TRIED_ROWS, 3, size, size, device=device)
        with torch.no_grad():
            answer = _seconds(lambda: estimator(pictures)) / TRIED_ROWS
        step = 0.0
        if config.finetune.steps and trainable(estimator):
            step = _finetuning(config, renderer(ids), device)
        generator_step = 0.0
        trained = [name for name in config.dataset.arms if name != BEFORE and arm_of(name).trains_generator]
        if trained and config.adversarial.steps:
            settings = replace(config.adversarial, warmup_steps=0)  # with the estimator's feedback, as most steps
            task = ArmTask(arm_of(trained[-1]).configure(replace(config, adversarial=settings)), trained[-1])
            generator_step = _seconds(AdversarialLoop(task, device).step)
        return cls(mesh, row, step, generator_step, answer)


def _finetuning(config: PosegenConfig, tried: pa.Table, device: str | torch.device) -> float:
    """Seconds of a step on a full batch of rendered rows."""
    rows = table_to_tensors(tried, COLUMNS)
    settings = replace(config.finetune, source_share=0.0, keep="none", guard_every=0)
    loop = FinetuneLoop(ArmTask(replace(config, finetune=settings), names()[0]), device)
    several = -(-loop.batch_rows // TRIED_ROWS)
    batch = {name: value.repeat(several, *[1] * (value.ndim - 1))[: loop.batch_rows] for name, value in rows.items()}
    return _seconds(lambda: loop.step(batch))


def _seconds(call: Callable[[], object]) -> float:
    """The second call's: the first one warms up."""
    call()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def seconds_of(work: Work, costs: Costs) -> Mapping[str, float]:
    """Seconds of each kind of work, one thing after the other on one device, without the target's lifting."""
    return {
        "source rows": work.source_rows * costs.source_row,
        "rendering": work.rows * costs.row,
        "generators": work.generator_steps * costs.generator_step,
        "fine-tuning": work.steps * costs.step,
        "answers": work.measured * costs.answer,
    }
