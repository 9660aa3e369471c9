"""The people and cameras of the lifted target, without a generator."""

from __future__ import annotations

from posegen.arms.registry import Arm, Given, Proposal
from posegen.target.given import needs_target


def propose(given: Given) -> Proposal:
    """Scenes around the target's people, a share of them around poses of the pool: what a generator starts from."""
    from posegen.arms.proposals import unshifted

    return unshifted(given)


ARM = Arm(
    "anchors", "anchors", "around the target's lifted people and their cameras, without a generator", "#0072b2", "X",
    place=40, propose=propose, check=needs_target, shown_target=True,
)  # fmt: skip
