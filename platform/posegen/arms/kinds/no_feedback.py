"""The method's twin: the same generator, trained without the estimator's error."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from posegen.arms.registry import Arm
from posegen.arms.usual import from_the_generator
from posegen.feedback.config import FeedbackConfig

if TYPE_CHECKING:
    from posegen.config import PosegenConfig


def without_feedback(config: PosegenConfig) -> PosegenConfig:
    """One twin for all feedbacks: nothing of theirs is left."""
    return replace(config, feedback=FeedbackConfig(name="none"))


ARM = Arm(
    "no_feedback", "no feedback", "the generator trained without the estimator's error", "#e69f00", "v", place=50,
    propose=from_the_generator, configure=without_feedback, trains_generator=True, shown_target=True,
)  # fmt: skip
