"""The method: a generator trained on the estimator's error, for one or more rounds (PoseGen, AAAI 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posegen.arms.registry import Arm
from posegen.arms.usual import from_the_generator

if TYPE_CHECKING:
    from posegen.config import PosegenConfig


def check(config: PosegenConfig) -> None:
    """The feedback gets what it needs of estimator, teachers and target. Raises ConfigError."""
    from posegen.adversarial.check import check_feedback

    check_feedback(config)


ARM = Arm(
    "posegen", "PoseGen", "the generator trained on the estimator's error", "#d55e00", "P", place=60,
    propose=from_the_generator, check=check, trains_generator=True, follows=True,
    shown_target=True, selects=True,
)  # fmt: skip
