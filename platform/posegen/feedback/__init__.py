"""How an estimator's error becomes the generator's loss."""

from posegen.feedback.config import FeedbackConfig
from posegen.feedback.errors3d import image_error_m
from posegen.feedback.objectives import Feedback, build

__all__ = ["Feedback", "FeedbackConfig", "build", "image_error_m"]
