"""Random images of which the hard but not hopeless are chosen: what feedback must beat, since it needs no generator."""

from __future__ import annotations

from posegen.arms.registry import Arm
from posegen.arms.usual import from_the_pool

ARM = Arm(
    "mined_random", "mined random", "random images, half of them the hardest of several candidates less the top",
    "#cc79a7", "D", place=30, propose=from_the_pool, selects=True,
)  # fmt: skip
