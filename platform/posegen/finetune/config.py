"""Settings of the fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class FinetuneConfig:
    """One fine-tuning. Batches are global: workers share them."""

    steps: int = 300
    batch: int = 64
    stream_share: float = 0.5  # of the steps, over which rows arrive as they are rendered; later steps draw from them
    source_share: float = 0.5  # of each batch, rows of the source the estimator was trained on
    learning_rate: float | None = None  # none: what the estimator recommends
    warmup_steps: int = 20
    weight_decay: float = 1e-3
    clip: float = 5.0
    frozen_batchnorm: bool = True
    average: float = 0.98  # decay of the running average of the weights, which is what is kept; 0 keeps the last
    augment: bool = True
    weight_joints: float = 10.0
    weight_rotations: float = 3.0  # with 1 the joints are learned at the price of the articulation (PA-MPJPE rises)
    weight_betas: float = 0.01
    weight_joints_crop: float = 1.0
    checkpoint_every: int = 50
