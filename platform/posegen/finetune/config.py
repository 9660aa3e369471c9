"""Settings of the fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

from posegen.config_types import choice, number, share
from posegen.errors import ConfigError


@dataclass(frozen=True)
class FinetuneConfig:
    """One fine-tuning. Batches are global: workers share them."""

    steps: int = number(300, low=1)  # training steps of the estimator
    batch: int = number(64, low=1)  # rows a step
    # of the steps, during which rows arrive as they are rendered; later ones draw from them
    stream_share: float = share(0.5)
    source_share: float = share(0.5)  # of each batch, how many rows are of the source that the estimator was trained on
    target_share: float = share(0.0)  # of each batch, pictures of the target, without any 3-D truth (weak labels)
    # what teaches those pictures: their 2-D keypoints alone, or also the people that were lifted from them
    target_labels: str = choice("keypoints", ("keypoints", "lifted"))
    weight_target: float = number(5.0, low=0)  # of their reprojection in the loss
    target_keep_mb: float = number(256.0, low=0)  # memory of each worker for crops of the target
    optimiser: str | None = None  # adamw or relative_adam; null takes what the estimator recommends
    learning_rate: float | None = number(None, above=0)  # null takes what the estimator recommends for its optimiser
    warmup_steps: int = number(20, low=0)  # over which the learning rate rises
    weight_decay: float = number(1e-3, low=0)  # of the optimiser
    clip: float = number(5.0, above=0)  # longest gradient; a longer one is scaled down to it
    frozen_batchnorm: bool = True  # keeps the statistics of BatchNorm layers
    average: float = share(0.98)  # decay of the running average of the weights, which is what is kept; 0 keeps the last
    augment: bool = True  # changes pictures in colour, noise and place while training
    weight_joints: float = number(10.0, low=0)  # of 3-D joints in the loss
    # of joint rotations in the loss; with 1 joints are learned at the price of articulation (PA)
    weight_rotations: float = number(3.0, low=0)
    weight_betas: float = number(0.01, low=0)  # of body shape in the loss
    weight_joints_crop: float = number(1.0, low=0)  # of joints as projected into the crop
    # holds what the estimator knew, by a penalty towards the old weights (l2sp) or towards the old answers on source
    # rows (distill)
    keep: str = choice("none", ("none", "l2sp", "distill"))
    keep_weight: float | None = number(None, low=0)  # of that penalty; null is 100 of l2sp, 5 of distill
    # steps between checks on rows that are never trained on; 0 checks nothing, null takes what the estimator
    # recommends
    guard_every: int | None = number(None, low=0)
    guard_rows: int = number(64, low=1)  # of each kind, generated and source, that are kept for these checks
    # an error beyond this multiple of the lowest of its kind, and beyond chance, goes back to the weights that are kept
    guard_factor: float = number(1.3, above=1)
    guard_back_off: float = 0.5  # factor on the steps after going back
    guard_tries: int = number(4, low=0)  # times that it goes back before the training stops with an error
    checkpoint_every: int = number(50, low=1)  # steps between two checkpoints

    def parts(self) -> tuple[int, int, int]:
        """Rows of a batch: generated, of the source, of the target. Raises ConfigError where shares are too large."""
        source, target = (round(self.batch * part) for part in (self.source_share, self.target_share))
        if source + target > self.batch:
            raise ConfigError(
                f"source and target take {source + target} rows of a batch of {self.batch}",
                where="finetune.source_share, finetune.target_share",
                next_command="shares that add up to 1 at most",
            )
        return self.batch - source - target, source, target
