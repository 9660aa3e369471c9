"""The optimisers of a fine-tuning by name, with the rate that belongs to each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from posegen.errors import ConfigError
from posegen.estimator.base import LEARNING_RATE
from posegen.finetune.config import FinetuneConfig
from posegen.finetune.relative_adam import RelativeAdam
from posegen.scene import TellsLearningRate, TellsOptimiser

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "relative_adam": RelativeAdam,
}
# An absolute rate and one relative to the weights are not the same number: an optimiser that the estimator does not
# recommend has the rate that is usual for it.
USUAL_RATES = {"adamw": LEARNING_RATE, "relative_adam": 3e-4}


def choose(settings: FinetuneConfig, estimator: Any) -> tuple[str, float, int]:
    """Optimiser, peak learning rate and steps between checks: as set, else as the estimator recommends, else usual."""
    told = estimator if isinstance(estimator, TellsOptimiser) else None
    recommended = told.optimiser if told else "adamw"
    name = settings.optimiser or recommended
    if name not in OPTIMISERS:
        raise ConfigError(f"unknown optimiser {name!r}", where="finetune.optimiser", choices=OPTIMISERS)
    rate = settings.learning_rate
    if rate is None:
        own = isinstance(estimator, TellsLearningRate) and name == recommended
        rate = estimator.learning_rate if own else USUAL_RATES[name]
    every = settings.guard_every
    if every is None:
        every = told.guard_every if told else 0
    if every < 0:
        raise ConfigError(f"{every} steps between checks", where="finetune.guard_every", choices=("0 or more",))
    return name, float(rate), int(every)


def build(
    name: str, parameters: Iterable[tuple[str, Tensor]], rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimiser called `name` on those of the named parameters that are trained."""
    trained = [(own, parameter) for own, parameter in parameters if parameter.requires_grad]
    return OPTIMISERS[name](trained, lr=rate, weight_decay=weight_decay)
