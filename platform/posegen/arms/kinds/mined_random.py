"""The hard rows of a larger random pool: what feedback must beat, since it needs no generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posegen.arms.registry import Arm, Mining
from posegen.arms.usual import from_the_pool

if TYPE_CHECKING:
    import numpy as np

    from posegen.config import PosegenConfig


def choose(errors_mm: np.ndarray, config: PosegenConfig) -> np.ndarray:
    """The hardest rows of the pool, less its top share."""
    from posegen.arms.mining import mine

    return mine(errors_mm, config.dataset.images, config.dataset.mined_drop_top)


ARM = Arm(
    "mined_random", "mined random", "the hardest of a larger random pool, less its top 10 %", "#cc79a7", "D", place=30,
    propose=from_the_pool, mining=Mining("random", choose),
)  # fmt: skip
