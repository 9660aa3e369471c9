"""What stages ask of whoever does the work: a Ray cluster (posegen.engine.workers) or this process (in_process.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from posegen.config.task import ArmTask
from posegen.experiment.rendering import Rendering

T = TypeVar("T")
OnRow = Callable[[dict[str, float]], None]  # told of each step's row of metrics


@dataclass(frozen=True)
class Training:
    """A training that a stage asks for.

    Attributes:
        kind: of the loop, see posegen.loops.LOOPS.
        task: what the loop is given.
        stage: the stage's name, such as `finetune/random`.
        digest: of everything the result depends on.
        steps: to train.
        checkpoint_every: steps.
        folder: of the stage in the run directory; history.jsonl goes there.
        storage: folder or URL that holds the checkpoints of all trainings of the run.
    """

    kind: str
    task: ArmTask
    stage: str
    digest: str
    steps: int
    checkpoint_every: int
    folder: Path
    storage: str

    @property
    def name(self) -> str:
        """The folder of its checkpoints in the storage."""
        return f"train-{self.stage.replace('/', '-')}-{self.digest}"

    @property
    def history(self) -> Path:
        return self.folder / "history.jsonl"


class Outcome(Protocol):
    """How a training ended."""

    @property
    def steps(self) -> int: ...

    @property
    def restarts(self) -> int:
        """Worker groups that were started again after a failure."""

    @property
    def counts(self) -> Mapping[str, int]:
        """More figures for the stage's marker."""

    def state(self) -> dict[str, Any]:
        """The loop's final state_dict, on the CPU."""


class Workers(Protocol):
    """Does the work of an experiment. What it makes is the same to the last digit whoever does it."""

    def render(self, rendering: Rendering, progress: Callable[[int], None]) -> Mapping[str, float]:
        """Renders rows into their folder; `progress` is told how many there are. Returns figures for the marker."""

    def train(self, training: Training, on_row: OnRow) -> Outcome:
        """Trains without rows, from its last checkpoint if there is one: a generator, or an arm that renders none."""

    def generator_at(self, training: Training, weights: Path) -> None:
        """Told that a generator was trained before, where others may wait for it."""

    def finetune(self, training: Training, rendering: Rendering, on_row: OnRow) -> Outcome:
        """Fine-tunes on rows while they are rendered."""

    def overlapped(
        self, rendering: Rendering, first: Callable[[], Any], train: Callable[[Workers], Any],
        finetune: Callable[[Workers], T],
    ) -> T:  # fmt: skip
        """Trains the generator, renders with its newest version and fine-tunes on that, all at the same time.

        Args:
            first: done before either, once it is known that there is room for all.
            train, finetune: do their part with the workers that they are given.
        """

    def forget(self, training: Training) -> None:
        """Removes the checkpoints of a training whose result is in the run directory."""
