"""How an estimator's error becomes the generator's loss: signals say what counts, objectives where it is moved."""

from posegen.feedback import agreement, progress, regret  # each registers its signal
from posegen.feedback.config import FeedbackConfig
from posegen.feedback.errors3d import image_error_m
from posegen.feedback.objectives import Feedback, build
from posegen.feedback.signals import Sample, Signal, Surroundings, build_signal

__all__ = [
    "Feedback", "FeedbackConfig", "Sample", "Signal", "Surroundings", "agreement", "build", "build_signal",
    "image_error_m", "progress", "regret",
]  # fmt: skip
