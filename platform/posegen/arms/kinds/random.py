"""Random poses, cameras and looks: the plainest way to more images."""

from __future__ import annotations

from posegen.arms.registry import Arm, Given, Proposal


def propose(given: Given) -> Proposal:
    """Real poses with Gaussian joint noise, cameras uniform in the split's ranges."""
    from posegen.arms.proposals import unshifted

    return unshifted(given)


ARM = Arm("random", "random", "random poses, cameras and looks", "#56b4e9", "s", place=10, propose=propose)
