"""What an experiment's stages are called, and what they depend on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posegen.experiment.stages import digest_of, file_digest

# What the rows of a data set depend on; the rest of the configuration may change without rendering them again.
ROW_KEYS = (
    "seed", "image_size", "body", "mocap", "background", "renderer", "estimator", "noise", "generator", "split",
)  # fmt: skip


def stage_name(stage: str, arm: str, round_: int) -> str:
    """`finetune/posegen`, and `finetune/posegen-round2` from the second round on."""
    return f"{stage}/{arm}" if round_ == 0 else f"{stage}/{arm}-round{round_ + 1}"


def training_name(stage: str, digest: str) -> str:
    """The folder of a stage's checkpoints in the storage."""
    return f"train-{stage.replace('/', '-')}-{digest}"


def generator_digest(config: Mapping[str, Any], round_: int, estimator_weights: Path | None) -> str:
    """Of all that the training of a generator depends on."""
    parts = {key: config[key] for key in (*ROW_KEYS, "feedback", "adversarial")}
    return digest_of(parts, round_, weights_digest(estimator_weights))


def weights_digest(weights: Path | None) -> str | None:
    return None if weights is None else file_digest(weights)


def worker_range(fewest: int, most: int | None) -> int | tuple[int, int]:
    """How many workers a training may have, as run_training takes it."""
    return fewest if most is None or most == fewest else (fewest, most)
