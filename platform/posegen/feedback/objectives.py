"""Losses on the estimator's error, by name."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from posegen.errors import ConfigError
from posegen.feedback.config import FeedbackConfig
from posegen.registry import Registry


class Feedback(Protocol):
    """A loss on per-image errors.

    `needs_gradient` says whether the error must carry a gradient to the image. `calibrate` is told the estimator's
    errors on the unshifted proposal before training; `state` is what it keeps (part of the checkpoint).
    """

    needs_gradient: bool
    state: dict[str, float]

    def calibrate(self, errors_m: Tensor) -> None: ...

    def loss(self, errors_m: Tensor, log_prob: Tensor) -> Tensor:
        """errors_m (B,) m, log_prob (B,) of the exploration that made the image -> scalar loss in units of cap."""
        ...


REGISTRY: Registry[Feedback] = Registry("feedbacks")


def build(config: FeedbackConfig) -> Feedback:
    """The feedback called config.name. Raises ConfigError with the valid names and for impossible settings."""
    factory = REGISTRY.get(config.name)
    if config.cap_mm <= 0:
        raise ConfigError(f"cap_mm must be positive, not {config.cap_mm}", where="feedback.cap_mm")
    if not 0 <= config.low_quantile < config.high_quantile <= 1:
        raise ConfigError(
            f"the band needs 0 <= low_quantile < high_quantile <= 1, not {config.low_quantile}, {config.high_quantile}",
            where="feedback",
        )
    return factory(config)


class _Base:
    needs_gradient = True

    def __init__(self, config: FeedbackConfig) -> None:
        self.cap_m = config.cap_mm / 1000
        self.state: dict[str, float] = {}

    def calibrate(self, errors_m: Tensor) -> None:
        """Nothing to learn from the proposal unless a subclass says so."""

    def saturated(self, errors_m: Tensor) -> Tensor:
        """cap * tanh(e / cap), in units of the cap."""
        return torch.tanh(errors_m / self.cap_m)


@REGISTRY.register("none")
class NoFeedback(_Base):
    """The baseline: the estimator is not asked."""

    def loss(self, errors_m: Tensor, log_prob: Tensor) -> Tensor:
        return errors_m.sum() * 0


@REGISTRY.register("maximise")
class Maximise(_Base):
    """Raises the error until it saturates."""

    def loss(self, errors_m: Tensor, log_prob: Tensor) -> Tensor:
        return -self.saturated(errors_m).mean()


@REGISTRY.register("band")
class Band(_Base):
    """Zero inside the band, linear outside: hard, but no harder than the hardest of the proposal."""

    def __init__(self, config: FeedbackConfig) -> None:
        super().__init__(config)
        self.quantiles = (config.low_quantile, config.high_quantile)

    def calibrate(self, errors_m: Tensor) -> None:
        low, high = torch.quantile(errors_m.detach().double().cpu(), torch.tensor(self.quantiles).double()).tolist()
        self.state = {"low_m": low, "high_m": max(high, low + 1e-3)}

    def loss(self, errors_m: Tensor, log_prob: Tensor) -> Tensor:
        low, high = self.state["low_m"], self.state["high_m"]
        return (F.relu(low - errors_m) + F.relu(errors_m - high)).mean() / low


@REGISTRY.register("hard_ratio")
class HardRatio(_Base):
    """PoseAug's feedback: error(generated) / error(proposal) is pulled towards a target ratio."""

    def __init__(self, config: FeedbackConfig) -> None:
        super().__init__(config)
        self.target = config.target_ratio

    def calibrate(self, errors_m: Tensor) -> None:
        self.state = {"reference_m": float(errors_m.detach().mean())}

    def loss(self, errors_m: Tensor, log_prob: Tensor) -> Tensor:
        ratio = errors_m / self.state["reference_m"]
        return (1 - torch.exp((ratio - self.target).clamp(-4, 4))).abs().mean()


@REGISTRY.register("score_function")
class ScoreFunction(_Base):
    """REINFORCE for estimators that offer no gradient: the advantage over the proposal weighs the log-probability.

    Williams (1992). The gradient is that of the saturated error's mean, in units of its spread over the proposal; the
    baseline only lowers the variance.
    """

    needs_gradient = False

    def calibrate(self, errors_m: Tensor) -> None:
        reward = self.saturated(errors_m.detach())
        self.state = {"baseline": float(reward.mean()), "spread": max(float(reward.std()), 1e-3)}

    def loss(self, errors_m: Tensor, log_prob: Tensor) -> Tensor:
        reward = self.saturated(errors_m.detach())
        advantage = (reward - self.state["baseline"]) / self.state["spread"]
        return -(advantage * log_prob).mean()
