"""Anchors of which the hard but not hopeless are chosen: the estimator's error without a generator."""

from __future__ import annotations

from posegen.arms.registry import Arm, Given, Proposal
from posegen.target.given import needs_target


def propose(given: Given) -> Proposal:
    """Scenes around the target's people, those that were chosen."""
    from posegen.arms.proposals import unshifted

    return unshifted(given)


ARM = Arm(
    "selected_anchors", "selected anchors", "anchors, half of them the hardest of several candidates less the top",
    "#332288", "h", place=45, propose=propose, check=needs_target, shown_target=True, selects=True,
)  # fmt: skip
