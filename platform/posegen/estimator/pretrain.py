"""Pre-training of the embedded estimator on its narrow source. Pure torch; the job is jobs/pretrain_hmr_small.py."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from posegen.estimator.augment import AugmentConfig, augment
from posegen.estimator.base import TrainableEstimator
from posegen.estimator.labels import LossWeights, follow_crop, supervised_loss
from posegen.estimator.preprocess import to_float
from posegen.estimator.source import SourceConfig, SourceRows
from posegen.seeds import torch_generator

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainConfig:
    """How the embedded estimator is trained.

    Attributes:
        images: rows rendered for training.
        held_out_images: rows rendered from held-out frames for the figure reported.
        steps, batch: of AdamW.
        learning_rate: peak; linear warm-up over warmup steps, then cosine to zero.
        average: decay of the running average of the weights, which is what is kept.
    """

    images: int = 10_000
    held_out_images: int = 512
    steps: int = 3000
    batch: int = 64
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-3
    warmup: int = 100
    average: float = 0.995
    clip_norm: float = 5.0
    seed: int = 0
    source: SourceConfig = field(default_factory=SourceConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossWeights = field(default_factory=LossWeights)


@torch.no_grad()
def mpjpe_mm(estimator: TrainableEstimator, rows: SourceRows, batch: int = 64) -> float:
    """Mean per-joint position error over rows, mm, root-centred."""
    estimator.eval()
    errors = [
        (estimator(to_float(part.images)).joints - part.labels.joints).norm(dim=-1).mean(-1)
        for part in (rows[slice(i, i + batch)] for i in range(0, len(rows), batch))
    ]
    return float(torch.cat(errors).mean()) * 1000


def pretrain(
    estimator: TrainableEstimator,
    rows: SourceRows,
    config: PretrainConfig,
    progress: Callable[[int, int, float], None] | None = None,
) -> TrainableEstimator:
    """Trains in place and leaves the averaged weights in the estimator, in evaluation mode.

    Args:
        progress: called after each step with steps done, steps in all and the loss.
    """
    generator = torch_generator(config.seed, "pretrain")
    estimator.train_mode(frozen_batchnorm=False)
    optimiser = torch.optim.AdamW(
        estimator.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimiser,
        [
            torch.optim.lr_scheduler.LinearLR(optimiser, 0.01, total_iters=config.warmup),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(config.steps - config.warmup, 1)),
        ],
        [config.warmup],
    )
    average = torch.optim.swa_utils.AveragedModel(
        estimator, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.average), use_buffers=True
    )
    for step in range(config.steps):
        part = rows[torch.randint(len(rows), (config.batch,), generator=generator)]
        images, zoom, shift = augment(to_float(part.images), config.augment, generator)
        loss = supervised_loss(estimator(images), follow_crop(part.labels, zoom, shift), config.loss)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(estimator.parameters(), config.clip_norm)
        optimiser.step()
        schedule.step()
        average.update_parameters(estimator)
        if progress:
            progress(step + 1, config.steps, float(loss.detach()))
    estimator.load_state_dict(average.module.state_dict())
    return estimator.eval()
