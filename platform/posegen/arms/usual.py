"""The two usual ways to propose, for arms' records: torch is imported when they are called."""

from __future__ import annotations

from posegen.arms.registry import Given, Proposal


def from_the_pool(given: Given) -> Proposal:
    """Real poses, or the target's people, with Gaussian joint noise; those that were chosen, for arms that choose."""
    from posegen.arms.proposals import unshifted

    return unshifted(given)


def from_the_generator(given: Given) -> Proposal:
    """The trained generator's scenes, mixed with the proposal."""
    from posegen.arms.proposals import shifted

    return shifted(given)
