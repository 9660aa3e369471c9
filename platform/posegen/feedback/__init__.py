"""How an estimator's error becomes the generator's loss: signals say what counts, objectives where it is moved."""

from typing import TYPE_CHECKING

from posegen.feedback.config import FeedbackConfig
from posegen.lazy import lazily

if TYPE_CHECKING:
    from posegen.feedback.errors3d import image_error_m
    from posegen.feedback.objectives import Feedback, build
    from posegen.feedback.signals import Sample, Signal, Surroundings, build_signal

__all__ = [
    "Feedback", "FeedbackConfig", "Sample", "Signal", "Surroundings", "build", "build_signal", "image_error_m",
]  # fmt: skip

# Settings are read by commands that need no torch.
__getattr__, __dir__ = lazily(
    __name__,
    {
        "Feedback": "posegen.feedback.objectives",
        "Sample": "posegen.feedback.signals",
        "Signal": "posegen.feedback.signals",
        "Surroundings": "posegen.feedback.signals",
        "build": "posegen.feedback.objectives",
        "build_signal": "posegen.feedback.signals",
        "image_error_m": "posegen.feedback.errors3d",
    },
)
