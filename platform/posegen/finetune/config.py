"""Settings of the fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

from posegen.config_types import choice, number, share


@dataclass(frozen=True)
class FinetuneConfig:
    """One fine-tuning. Batches are global: workers share them."""

    steps: int = number(300, low=1)
    batch: int = number(64, low=1)
    stream_share: float = share(0.5)  # of the steps, while rows arrive as they are rendered; later ones draw from them
    source_share: float = share(0.5)  # of each batch, rows of the source the estimator was trained on
    # Of each batch, pictures of the target, taught by their 2-D keypoints alone (weak labels); needs target.images.
    target_share: float = share(0.0)
    weight_target: float = number(5.0, low=0)
    target_keep_mb: float = number(256.0, low=0)  # of each worker, for crops of the target
    optimiser: str | None = None  # adamw | relative_adam; none: what the estimator recommends
    learning_rate: float | None = number(None, above=0)  # none: what the estimator recommends for its optimiser
    warmup_steps: int = number(20, low=0)
    weight_decay: float = number(1e-3, low=0)
    clip: float = number(5.0, above=0)
    frozen_batchnorm: bool = True
    average: float = share(0.98)  # decay of the running average of the weights, which is what is kept; 0 keeps the last
    augment: bool = True
    weight_joints: float = number(10.0, low=0)
    weight_rotations: float = number(3.0, low=0)  # with 1 joints are learned at the price of articulation (PA)
    weight_betas: float = number(0.01, low=0)
    weight_joints_crop: float = number(1.0, low=0)
    # What the estimator knew: a penalty towards the old weights, or towards the old answers on source rows.
    keep: str = choice("none", ("none", "l2sp", "distill"))
    keep_weight: float | None = number(None, low=0)  # none: 100 of l2sp, 5 of distill
    # Checks on rows that are never trained on; see posegen.finetune.guard.
    guard_every: int | None = number(None, low=0)  # steps; 0: none; none: what the estimator recommends
    guard_rows: int = number(64, low=1)  # of each kind, generated and source
    guard_factor: float = number(1.3, above=1)
    guard_back_off: float = 0.5
    guard_tries: int = number(4, low=0)
    checkpoint_every: int = number(50, low=1)
