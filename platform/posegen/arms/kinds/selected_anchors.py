"""Anchors of which the hard but not hopeless are chosen: the estimator's error without a generator."""

from __future__ import annotations

from posegen.arms.registry import Arm
from posegen.arms.usual import from_the_pool
from posegen.target.given import needs_target

ARM = Arm(
    "selected_anchors", "selected anchors", "anchors, half of them the hardest of several candidates less the top",
    "#332288", "h", place=45, propose=from_the_pool, check=needs_target, shown_target=True, selects=True,
)  # fmt: skip
