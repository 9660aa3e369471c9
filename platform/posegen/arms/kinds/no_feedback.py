"""The method's twin: the same generator, trained without the estimator's error."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from posegen.arms.registry import Arm, Given, Proposal

if TYPE_CHECKING:
    from posegen.config import PosegenConfig


def without_feedback(config: PosegenConfig) -> PosegenConfig:
    return replace(config, feedback=replace(config.feedback, name="none"))


def propose(given: Given) -> Proposal:
    """The trained generator's scenes, mixed with the proposal."""
    from posegen.arms.proposals import shifted

    return shifted(given)


ARM = Arm(
    "no_feedback", "no feedback", "the generator trained without the estimator's error", "#e69f00", "v", place=50,
    propose=propose, configure=without_feedback, trains_generator=True, shown_target=True,
)  # fmt: skip
