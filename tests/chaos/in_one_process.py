"""The small experiment up to its fine-tuned weights, in one process without Ray: what test_chaos.py kills."""

from __future__ import annotations

import sys
from pathlib import Path

from posegen.config import compose
from posegen.experiment.experiment import Experiment
from posegen.experiment.in_process import InProcess
from posegen.experiment.opening import opened
from posegen.progress import Reporter

WORDS = (
    "experiment=smoke", "dataset.arms=[random]", "dataset.images=48", "dataset.source_images=48", "finetune.steps=6",
    "evaluation.suite=[ski-like]", "run.name=struck",
)  # fmt: skip


def tuned(outputs: Path) -> Path:
    """The run directory of the experiment, gone on with where it was."""
    words = [*WORDS, f"run.outputs={outputs}"]
    config = compose(words)
    with opened("run", config, InProcess("cpu"), Reporter(), words) as experiment:
        assert isinstance(experiment, Experiment)
        experiment.finetune("random")
        return experiment.run.path


if __name__ == "__main__":
    tuned(Path(sys.argv[1]))
