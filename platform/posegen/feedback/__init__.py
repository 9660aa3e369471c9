"""How an estimator's error becomes the generator's loss."""

from typing import TYPE_CHECKING

from posegen.feedback.config import FeedbackConfig
from posegen.lazy import lazily

if TYPE_CHECKING:
    from posegen.feedback.errors3d import image_error_m
    from posegen.feedback.objectives import Feedback, build

__all__ = ["Feedback", "FeedbackConfig", "build", "image_error_m"]

# Settings are read by commands that need no torch.
__getattr__, __dir__ = lazily(
    __name__,
    {
        "Feedback": "posegen.feedback.objectives",
        "build": "posegen.feedback.objectives",
        "image_error_m": "posegen.feedback.errors3d",
    },
)
