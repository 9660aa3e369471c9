"""The people and cameras of the lifted target, without a generator."""

from __future__ import annotations

from posegen.arms.registry import Arm
from posegen.arms.usual import from_the_pool
from posegen.target.given import needs_target

ARM = Arm(
    "anchors", "anchors", "around the target's lifted people and their cameras, without a generator", "#0072b2", "X",
    place=40, propose=from_the_pool, check=needs_target, shown_target=True,
)  # fmt: skip
