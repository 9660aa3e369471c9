"""Whether a feedback has what it needs, said before anything starts."""

from __future__ import annotations

from posegen.adversarial.teachers import teachers_of
from posegen.config.schema import PosegenConfig
from posegen.errors import ConfigError
from posegen.estimator.configured import build_estimator
from posegen.feedback import FeedbackConfig
from posegen.feedback import build as build_feedback
from posegen.feedback.regret import RegretSignal
from posegen.feedback.signals import Surroundings, TellsGradient, need_weights, signal_called
from posegen.scene import Estimator
from posegen.target.given import needs_pictures

NEED_WEIGHTS = ("progress", "agreement")


def check_feedback(config: PosegenConfig) -> None:
    """Raises ConfigError where a feedback lacks a gradient, weights, teachers, or pictures of the target."""
    settings = config.feedback
    build_feedback(settings)
    signal = signal_called(settings.signal)
    if settings.name == "none":
        return
    estimator = build_estimator(config)
    if settings.signal in NEED_WEIGHTS:
        need_weights(estimator, settings.signal)
    if settings.signal == "agreement":
        needs_pictures(config)
    if settings.signal == "regret":
        RegretSignal(settings, Surroundings(estimator, teachers_of(config)))
    check_gradient(settings, estimator, signal.needs_gradient if isinstance(signal, TellsGradient) else True)


def check_gradient(settings: FeedbackConfig, estimator: Estimator, through_estimator: bool = True) -> None:
    """Raises ConfigError where a feedback needs a gradient that the estimator does not offer.

    Args:
        through_estimator: whether the gradient of the signal comes through the estimator.
    """
    needed = settings.name != "none" and build_feedback(settings).needs_gradient and through_estimator
    if needed and not estimator.differentiable:
        raise ConfigError(
            f"estimator {estimator.name!r} offers no gradient, which feedback {settings.name!r} needs",
            where="feedback.name", choices=("score_function", "none"), next_command="feedback=score_function",
        )  # fmt: skip
