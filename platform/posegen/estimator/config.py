"""What a configuration says of an estimator."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posegen.config_types import place
from posegen.errors import CheckpointError, ConfigError

UNTRAINED = ("efficientnet", "hybrik", "spin")  # come without weights of their own


@dataclass(frozen=True)
class EstimatorConfig:
    """Which estimator, with which weights.

    Attributes:
        name: of the estimator: an option of the group estimator, or a plug-in's.
        checkpoint: file of weights; null takes the estimator's own default (shipped or fetched weights), where it
            has one.
        mean_params: smpl_mean_params.npz (SPIN) or h36m_mean_beta.npy (HybrIK); only read when the checkpoint lacks
            those buffers.
        source: the part of the split that it was pre-trained on: source rows are of it. What it knows is watched on
            the part `<source>-like`.
        random: whether one without shipped weights may start from random ones.
        body: SMPL file or folder that its rotations and betas are of; null is that of the scenes.
        options: further keyword arguments of the estimator's factory.
    """

    name: str = "hmr_small"
    checkpoint: str | None = place(existing=True)
    mean_params: str | None = place(existing=True)
    body: str | None = place(existing=True)
    source: str = "source"
    random: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def check_weights(self) -> None:
        """Raises ConfigError where the estimator would start from random weights and nobody asked for that."""
        if self.name in UNTRAINED and self.checkpoint is None and not self.random:
            raise ConfigError(
                f"estimator {self.name} needs a checkpoint: without one its weights are random and its numbers mean "
                "nothing",
                where="estimator.checkpoint",
                next_command=f"estimator={self.name} estimator.checkpoint=FILE   # to try it all the same: "
                "estimator.random=true",
            )

    def weights(self) -> str:
        """What its weights are, for results: the first 12 digits of the checkpoint's sha256, `shipped` or `random`."""
        if self.checkpoint is not None:
            return checkpoint_digest(self.checkpoint)
        return "random" if self.name in UNTRAINED else "shipped"

    def keywords(self, weights: str | None = None) -> dict[str, Any]:
        """Arguments for posegen.estimator.build: those that are set.

        Args:
            weights: take the checkpoint's place. One that is the architecture as well (.tflite) stays as that.
        """
        given = {"checkpoint": weights or self.checkpoint, "mean_params": self.mean_params}
        if weights is not None and self.checkpoint is not None and self.checkpoint.endswith(".tflite"):
            given["model_file"] = self.checkpoint
        return {**{key: value for key, value in given.items() if value is not None}, **self.options}


def checkpoint_digest(path: str | Path) -> str:
    """The first 12 hexadecimal digits of a file's sha256, as `sha256sum` prints them."""
    import hashlib

    try:
        with Path(path).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except OSError as error:
        raise CheckpointError(f"the checkpoint cannot be read: {error.strerror or error}", where=path) from error
