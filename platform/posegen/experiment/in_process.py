"""This process as the workers of an experiment: one thing after the other, no Ray.

What it makes is what a cluster makes with one trainer, to the last digit. It serves where there is no Ray, and as the
plain loop that the engine's price is measured against (tests/speed/run.py).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import torch

from posegen.devices import default_device
from posegen.errors import CheckpointError, ConfigError
from posegen.experiment.rendering import BlockRenderer, Rendering, finish_folder, prepare_folder
from posegen.experiment.work import OnRow, Training, Workers
from posegen.files.versions import load_state, save_state
from posegen.finetune.rows import GeneratedRows
from posegen.loops import Batches, NoBatches, loop_class, on_cpu

T = TypeVar("T")
STATE_FORMAT = 1  # of a training's checkpoint


@dataclass(frozen=True)
class PlainOutcome:
    """How a training in this process ended."""

    steps: int
    final: dict[str, Any]
    restarts: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        return self.final


class InProcess:
    """Renders and trains here.

    Args:
        device: where to compute; None takes the GPU if there is one.
        keep_mb: memory for rows of later epochs, as engine.keep_mb.
    """

    def __init__(self, device: str | torch.device | None = None, keep_mb: float = 1024.0) -> None:
        self.device = torch.device(device) if device is not None else default_device()
        self.keep_mb = keep_mb

    def render(self, rendering: Rendering, progress: Callable[[int], None]) -> Mapping[str, float]:
        """Renders rows into their folder; those that are there are kept."""
        before = prepare_folder(rendering)
        if before < rendering.rows:
            done = 0
            for block in _blocks(rendering):
                done += block.num_rows
                progress(done)
        return {"rows": finish_folder(rendering), "rendered": rendering.rows - before}

    def train(self, training: Training, on_row: OnRow) -> PlainOutcome:
        """Trains a generator, from its last checkpoint if there is one."""
        return self._run(training, lambda loop: NoBatches(), on_row)

    def generator_at(self, training: Training, weights: Path) -> None:
        del training, weights  # nobody waits for it

    def finetune(self, training: Training, rendering: Rendering, on_row: OnRow) -> PlainOutcome:
        """Fine-tunes on rows, each block of which is rendered when it is needed."""
        config = training.task.config
        prepare_folder(rendering)
        try:
            return self._run(
                training,
                lambda loop: GeneratedRows(
                    training.task, tables=lambda: _blocks(rendering), loop=loop, rank=0, world_size=1,
                    rows=rendering.rows, seed=config.seed, keep_mb=self.keep_mb,
                    stream_share=config.finetune.stream_share,
                ),
                on_row,
            )  # fmt: skip
        finally:
            finish_folder(rendering)

    def overlapped(
        self, rendering: Rendering, first: Callable[[], Any], train: Callable[[Workers], Any],
        finetune: Callable[[Workers], T],
    ) -> T:  # fmt: skip
        """Cannot be: one process does one thing at a time."""
        raise ConfigError("overlap=true needs a cluster", where="overlap", next_command="posegen run overlap=true")

    def forget(self, training: Training) -> None:
        shutil.rmtree(self._checkpoint(training).parent, ignore_errors=True)

    def _checkpoint(self, training: Training) -> Path:
        return Path(training.storage) / training.name / "plain" / "state.pt"

    def _run(self, training: Training, batches_of: Callable[[Any], Batches], on_row: OnRow) -> PlainOutcome:
        loop: Any = loop_class(training.kind)(training.task, device=self.device)
        file = self._checkpoint(training)
        if file.is_file():
            loop.load_state_dict(_load(file, training.digest, self.device))
        training.folder.mkdir(parents=True, exist_ok=True)
        source: Iterator[tuple[Any, ...]] | None = None
        batches = batches_of(loop)
        with _History(training.history, loop.step_index) as history:
            while loop.step_index < loop.steps:
                source = source or iter(batches)
                metrics = loop.step(*next(source))
                row = {"step": loop.step_index} | {name: float(value) for name, value in metrics.items()}
                row |= batches.metrics()
                history.write(row)
                on_row(row)
                if loop.step_index % training.checkpoint_every == 0 or loop.step_index >= loop.steps:
                    kept = {"digest": training.digest, "loop": on_cpu(loop.state_dict())}
                    save_state(kept, file, STATE_FORMAT)
        return PlainOutcome(loop.step_index, on_cpu(loop.state_dict()))


class _History:
    """history.jsonl, cut back to the step that a training goes on from."""

    def __init__(self, path: Path, step: int) -> None:
        from posegen.files.state import read_history

        kept = [row for row in read_history(path) if row["step"] <= step] if step else []
        self.path, self.kept = path, kept

    def __enter__(self) -> _History:
        self.file = self.path.open("w", encoding="utf-8")
        for row in self.kept:
            self.write(row)
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def write(self, row: Mapping[str, float]) -> None:
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()


def _blocks(rendering: Rendering) -> Iterator[pa.Table]:
    renderer = BlockRenderer(rendering)
    for ids in rendering.plan.shards():
        yield renderer(ids)


def _load(file: Path, digest: str, device: torch.device) -> dict[str, Any]:
    cure = f"rm {file}  # the stage starts anew"
    kept = load_state(file, STATE_FORMAT, "the training's checkpoint", cure, error=CheckpointError, map_location=device)
    if kept.get("digest") != digest:
        raise CheckpointError(
            "a training of another configuration is stored under this name", where=file, next_command=f"rm {file}"
        )
    return kept["loop"]
