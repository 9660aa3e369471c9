"""A Ray cluster as the workers of an experiment: rendering is a Ray Data stage, training a Ray Train run."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from posegen.config import PosegenConfig
from posegen.engine.finetune import run_finetuning
from posegen.engine.overlap import Overlap
from posegen.engine.resources import free_resources, require, unplaced
from posegen.engine.side_by_side import Bundles, SideBySide
from posegen.engine.stream import bundles, render_to_disk
from posegen.engine.terms import Claim, Place, Reading, Reports
from posegen.engine.train import TrainOutcome, run_training
from posegen.experiment.rendering import Rendering
from posegen.experiment.work import OnRow, Training, Workers
from posegen.generator.build import load_generator
from posegen.loops import version_of
from posegen.machine import cores

T = TypeVar("T")


class RayWorkers:
    """Renders and trains on the connected cluster.

    Args:
        config: of the experiment; its `engine` says how much of the cluster is taken.
        check_resources: False where runs queue for resources on purpose, as the trials of a sweep do.
    """

    def __init__(self, config: PosegenConfig, check_resources: bool = True) -> None:
        self.config, self.engine, self.check_resources = config, config.engine, check_resources
        self.together: SideBySide | None = None  # set where arms run side by side

    def render(self, rendering: Rendering, progress: Callable[[int], None]) -> Mapping[str, float]:
        """Renders to disk, in turn where arms run side by side. No trainer is at work meanwhile: renderers take its
        place."""
        if self.together is None:
            self._require(bundles(rendering), "rendering")
            return render_to_disk(self._with_trainers_place(rendering), progress)
        with self.together.turn() as turn:
            self._require(bundles(rendering), "rendering", free_within_s=math.inf, progress=turn.waiting)
            rendering = self._with_trainers_place(rendering)

            def told(done: int) -> None:
                turn.started()
                turn.check()
                progress(done)

            return render_to_disk(rendering, told)

    def train(self, training: Training, on_row: OnRow, overlap: Overlap | None = None) -> TrainOutcome:
        """Trains without rows; with `overlap` each checkpoint of the generator is published on its board."""
        engine = self.engine
        tunes = training.kind == "finetune"  # of an arm for which nothing is rendered
        most = engine.max_train_workers or engine.train_workers
        workers = engine.finetune_workers if tunes else (engine.train_workers, most)
        return run_training(
            training.kind,
            training.task,
            place_of(training),
            claim=self._claim(workers, overlap),
            reports=self._reports(training, on_row, overlap, overlap.board.publish_generator if overlap else None),
        )

    def generator_at(self, training: Training, weights: Path) -> None:
        del training, weights  # nobody waits for it

    def finetune(
        self, training: Training, rendering: Rendering, on_row: OnRow, overlap: Overlap | None = None
    ) -> TrainOutcome:
        """Fine-tunes on rows while they are rendered."""
        return run_finetuning(
            training.task,
            rendering,
            place_of(training),
            claim=self._claim(self.engine.finetune_workers, overlap),
            reports=self._reports(training, on_row, overlap),
            reading=Reading(self.config.seed, self.engine.keep_mb, training.task.config.finetune.stream_share),
            online=overlap.online if overlap else None,
        )

    def overlapped(
        self, rendering: Rendering, first: Callable[[], Any], train: Callable[[Workers], Any],
        finetune: Callable[[Workers], T],
    ) -> T:  # fmt: skip
        """Trains the generator, renders with its newest version and fine-tunes on that, all at the same time."""
        with self.together.turn() if self.together else nullcontext() as turn:
            patience: dict[str, Any] = {"free_within_s": math.inf, "progress": turn.waiting} if turn else {}
            what = "overlap=true (training, rendering and fine-tuning at once)"
            self._require(self.asks(trains=True, overlaps=True), what, **patience)
            first()
            overlap = Overlap(rendering, self.config.dataset.freshness, turn.started if turn else lambda row: None)
            both = OverlappedWorkers(self, overlap)
            return overlap.run(lambda: train(both), lambda: finetune(both))

    def forget(self, training: Training) -> None:
        """A finished training's weights are in the run; its checkpoints with optimiser states are not needed more."""
        shutil.rmtree(Path(training.storage) / training.name, ignore_errors=True)

    def asks(self, trains: bool, overlaps: bool) -> Bundles:
        """What an arm takes of the cluster when it takes most.

        Args:
            trains: it trains a generator.
            overlaps: it does that while it is fine-tuned.
        """
        engine = self.engine
        trainer = {"CPU": engine.cpus_per_trainer, "GPU": engine.gpus_per_trainer}
        renderer = {"CPU": engine.cpus_per_renderer, "GPU": engine.gpus_per_renderer}
        generating = engine.train_workers if trains else 0
        finetuning = engine.finetune_workers
        trainers = finetuning + generating if overlaps else max(finetuning, generating)
        return [trainer] * trainers + [renderer] * engine.render_actors

    def _with_trainers_place(self, rendering: Rendering) -> Rendering:
        """As many more renderers as fit into what this arm's trainers take, if that is free now."""
        engine = self.engine
        if not self.check_resources:
            return rendering
        ratios = [engine.cpus_per_trainer / engine.cpus_per_renderer] if engine.cpus_per_renderer else []
        if engine.gpus_per_renderer:
            ratios.append(engine.gpus_per_trainer / engine.gpus_per_renderer)
        trainers = max(engine.train_workers, engine.finetune_workers)
        more = trainers * math.floor(min(ratios, default=0))
        if engine.address is None:  # a Ray started here has more logical CPUs than a small machine has cores
            more = min(more, max(0, cores() - rendering.actors))
        free = free_resources()
        while more and unplaced(bundles(replace(rendering, actors=rendering.actors + more)), free):
            more -= 1
        return replace(rendering, actors=rendering.actors + more)

    def _require(self, asked: Sequence[Mapping[str, float]], what: str, **patience: Any) -> None:
        """An error, not Ray's endless wait, where there is no place."""
        if self.check_resources:
            require([dict(one) for one in asked], what, wait_s=self.engine.wait_for_nodes_s, **patience)

    def _claim(self, workers: int | tuple[int, int], overlap: Overlap | None) -> Claim:
        """What a Ray Train run asks of the cluster. With `overlap`, who overlaps has the turn already."""
        engine = self.engine
        return Claim(
            workers, engine.cpus_per_trainer, engine.gpus_per_trainer,
            max_failures=engine.max_failures,
            wait_s=engine.wait_for_nodes_s,
            checked=self.check_resources,
            turn=self.together.turn() if self.together and not overlap else None,
        )  # fmt: skip

    def _reports(
        self, training: Training, on_row: OnRow, overlap: Overlap | None, publish: Callable[..., None] | None = None
    ) -> Reports:
        groups = [group for group in (self.together, overlap and overlap.together) if group]
        return Reports(
            on_row, training.checkpoint_every, publish=publish, callbacks=[group.lifeline() for group in groups]
        )


class OverlappedWorkers:
    """The workers of one arm whose generator's training, rendering and fine-tuning run at the same time."""

    def __init__(self, workers: RayWorkers, overlap: Overlap) -> None:
        self.workers, self.overlap = workers, overlap
        self.render, self.overlapped, self.forget = workers.render, workers.overlapped, workers.forget

    def train(self, training: Training, on_row: OnRow) -> TrainOutcome:
        return self.workers.train(training, on_row, self.overlap)

    def generator_at(self, training: Training, weights: Path) -> None:
        """Where the training was done before, this is its only version."""
        self.overlap.board.publish(version_of(training.steps, training.checkpoint_every), load_generator(weights))

    def finetune(self, training: Training, rendering: Rendering, on_row: OnRow) -> TrainOutcome:
        def both(row: dict[str, float]) -> None:
            self.overlap.on_row(row)
            on_row(row)

        outcome = self.workers.finetune(training, rendering, both, self.overlap)
        return replace(outcome, counts=self.overlap.counts())


def place_of(training: Training) -> Place:
    return Place(training.storage, training.name, training.history, training.digest)
