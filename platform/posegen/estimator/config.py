"""What a configuration says of an estimator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class EstimatorConfig:
    """Which estimator, with which weights.

    Attributes:
        name: a name in posegen.estimator.REGISTRY.
        checkpoint: file of weights; None takes the estimator's own default (shipped or fetched weights), where it
            has one.
        mean_params: smpl_mean_params.npz (SPIN) or h36m_mean_beta.npy (HybrIK); only read when the checkpoint lacks
            those buffers.
        body: SMPL file or folder that its rotations and betas are of; None is that of the scenes.
        options: further keyword arguments of the estimator's factory.
    """

    name: str = "hmr_small"
    checkpoint: str | None = None
    mean_params: str | None = None
    body: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def keywords(self, weights: str | None = None) -> dict[str, Any]:
        """Arguments for posegen.estimator.build: those that are set.

        Args:
            weights: take the checkpoint's place. One that is the architecture as well (.tflite) stays as that.
        """
        given = {"checkpoint": weights or self.checkpoint, "mean_params": self.mean_params}
        if weights is not None and self.checkpoint is not None and self.checkpoint.endswith(".tflite"):
            given["model_file"] = self.checkpoint
        return {**{key: value for key, value in given.items() if value is not None}, **self.options}
