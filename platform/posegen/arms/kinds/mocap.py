"""Motion-capture poses as they are, before random cameras."""

from __future__ import annotations

from posegen.arms.registry import Arm, Given, Proposal


def propose(given: Given) -> Proposal:
    """Real poses without noise, cameras uniform in the split's ranges."""
    from posegen.arms.proposals import unshifted

    return unshifted(given, pose_noise=0.0)


ARM = Arm("mocap", "mocap", "motion-capture poses, random cameras", "#009e73", "^", place=20, propose=propose)
