"""The people and cameras of the lifted target, without a generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posegen.arms.registry import Arm, Given, Proposal

if TYPE_CHECKING:
    from posegen.config import PosegenConfig


def check(config: PosegenConfig) -> None:
    """Reads the lifted target. Raises ConfigError or DataError."""
    from posegen.target.proposal import lifted_anchors

    lifted_anchors(config.target)


def propose(given: Given) -> Proposal:
    """Scenes around the people of target.lifted."""
    from posegen.target.proposal import anchor_proposal

    return anchor_proposal(given.config, given.poses, given.body, given.subjects)


ARM = Arm(
    "anchors", "anchors", "the lifted target's people and cameras, without a generator", "#0072b2", "X", place=40,
    propose=propose, check=check,
)  # fmt: skip
