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
    optimiser: str | None = None  # adamw | relative_adam; none: what the estimator recommends
    learning_rate: float | None = None  # none: what the estimator recommends, with the optimiser that it recommends
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
    # What the estimator knew: a penalty towards the old weights, or towards the old answers on source rows.
    keep: str = "none"  # none | l2sp | distill
    keep_weight: float | None = None  # none: 100 of l2sp, 5 of distill
    # Checks on rows that are never trained on; see posegen.finetune.guard.
    guard_every: int | None = None  # steps; 0: none; none: what the estimator recommends
    guard_rows: int = 64  # of each kind, generated and source
    guard_factor: float = 1.3
    guard_back_off: float = 0.5
    guard_tries: int = 4
    checkpoint_every: int = 50
