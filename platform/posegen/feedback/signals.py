"""Signals: what of a sample counts. A feedback (posegen.feedback.objectives) moves the generator by a signal's values.

Every signal is a number for each image, larger for what the estimator should see more of. The error is in metres as it
is; the others are brought to the same scale, as if they were errors of 300 mm +- 100 mm over the proposal, so that
caps, bands and ratios mean the same whatever the signal.

Dimensions: B images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from posegen.errors import ConfigError
from posegen.estimator.crop import CropConvention
from posegen.estimator.weak_labels import WeakRows
from posegen.feedback.config import FeedbackConfig
from posegen.feedback.errors3d import image_error_m
from posegen.registry import Registry
from posegen.scene import Estimator, Prediction

LIKE_AN_ERROR_M = (0.3, 0.1)  # mean and standard deviation over the proposal of signals that are no errors


class Sample:
    """B rendered scenes as an estimator sees them.

    Args:
        estimator: whose feedback it is.
        images: (B,3,S,S) in [0,1], cropped as the estimator wants it.
        joints_cam_m: (B,24,3) their true joints, camera frame.
        kind: of the error, see posegen.feedback.errors3d.
        again: the same scenes cropped in another way: images and true joints.
    """

    def __init__(
        self,
        estimator: Estimator,
        images: Tensor,
        joints_cam_m: Tensor,
        kind: str = "mpjpe",
        again: Callable[[CropConvention], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        self.estimator, self.images, self.joints_cam_m, self.kind = estimator, images, joints_cam_m, kind
        self._again = again

    @cached_property
    def prediction(self) -> Prediction:
        return self.estimator(self.images)

    @cached_property
    def errors_m(self) -> Tensor:
        """(B,) the estimator's error."""
        return image_error_m(self.prediction, self.joints_cam_m, self.kind)

    def seen_by(self, crop: CropConvention) -> tuple[Tensor, Tensor]:
        """Images and true joints in another estimator's crop."""
        if self._again is None or not crop.reframes:
            return self.images, self.joints_cam_m
        return self._again(crop)


@dataclass(frozen=True)
class Surroundings:
    """What signals are made from.

    Attributes:
        estimator: whose error it is; its weights are not changed.
        teachers: better ones, for `regret`.
        earlier: the estimator as it was a round ago, for `progress`; None in the first round.
        weak: the target's pictures, for `agreement`.
        seed: of the halves that a probe is trained and measured on.
    """

    estimator: Any
    teachers: tuple[Estimator, ...] = ()
    earlier: Any = None
    weak: WeakRows | None = None
    seed: int = 0


class Signal(Protocol):
    """Values of samples.

    `needs_gradient` says whether the values' gradient comes through the estimator, which then must offer one.
    `calibrate` is told samples of the unshifted proposal before training; `state` is what it keeps of them.
    """

    needs_gradient: bool
    state: dict[str, Any]

    def calibrate(self, samples: list[Sample]) -> None: ...

    def of(self, sample: Sample) -> Tensor:
        """(B,), with gradient to the scenes where the estimator, or the signal by itself, offers it."""
        ...


@runtime_checkable
class TellsGradient(Protocol):
    """What builds a signal and tells, before it does, what Signal.needs_gradient will be; a plain function does not."""

    needs_gradient: bool


REGISTRY: Registry[Signal] = Registry("signals")
BUILT_IN = ("agreement", "progress", "regret")  # modules beside this one


def signal_called(name: str) -> Callable[..., Signal]:
    """What builds the signal of a name. Raises ConfigError with the valid names."""
    for module in BUILT_IN:
        import_module(f"posegen.feedback.{module}")  # each registers its own
    return REGISTRY.get(name)


def build_signal(config: FeedbackConfig, around: Surroundings) -> Signal:
    """The signal called config.signal. Raises ConfigError with the valid names, and where something it needs is
    missing."""
    return signal_called(config.signal)(config, around)


@REGISTRY.register("error")
class ErrorSignal:
    """u(x) = e(x): the mean joint error in metres."""

    needs_gradient = True

    def __init__(self, config: FeedbackConfig, around: Surroundings) -> None:
        self.state: dict[str, Any] = {}

    def calibrate(self, samples: list[Sample]) -> None:
        """An error is what it is."""

    def of(self, sample: Sample) -> Tensor:
        return sample.errors_m


class Standardised(ABC):
    """u(x) = 0.3 m + 0.1 m (r(x) - mean r) / std r, mean and std over the proposal. Subclasses give r (`raw`)."""

    needs_gradient = True

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    @abstractmethod
    def raw(self, sample: Sample) -> Tensor:
        """r (B,), any unit."""

    def calibrate(self, samples: list[Sample]) -> None:
        with torch.no_grad():
            values = torch.cat([self.raw(sample) for sample in samples]).double()
        self.state |= {"mean": float(values.mean()), "std": max(float(values.std(correction=0)), 1e-9)}

    def of(self, sample: Sample) -> Tensor:
        middle, spread = LIKE_AN_ERROR_M
        return middle + spread * (self.raw(sample) - self.state["mean"]) / self.state["std"]


WITHOUT_WEIGHTS = ("error", "regret")  # signals of estimators that have none


def need_weights(estimator: Estimator, signal: str) -> None:
    """Raises ConfigError unless the estimator has weights that a signal can look at."""
    from posegen.estimator import trainable

    if not trainable(estimator):
        raise ConfigError(
            f"estimator {estimator.name!r} has no weights, which the signal {signal!r} looks at",
            where="feedback.signal", choices=WITHOUT_WEIGHTS, next_command="feedback=score_function",
        )  # fmt: skip
