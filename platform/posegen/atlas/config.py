"""Settings of the failure atlas."""

from __future__ import annotations

from dataclasses import dataclass

from posegen.config_types import number, place


@dataclass(frozen=True)
class AtlasConfig:
    """How many pictures, how they are grouped and how much is shown.

    Attributes:
        scenes: drawn from the proposal: real poses with joint noise, cameras from everywhere.
        target_scenes: drawn around the lifted target's people, where there is a target.
        groups: that pictures are sorted into by pose, view and look.
        shown: of the worst groups, with pictures.
        pictures: of each.
        mapped: pictures on the map of poses.
        turned: people in the 3-D view.
        after: weights of the same estimator after fine-tuning, to compare with.
        arm: of a run (run=NAME), whose weights are compared; none takes the method's.
        output: folder of the atlas; none makes one under run.outputs.
    """

    scenes: int = number(4000, low=20)
    target_scenes: int = number(1000, low=20)
    groups: int = number(24, low=2, high=200)
    shown: int = number(6, low=1, high=50)
    pictures: int = number(6, low=1, high=24)
    mapped: int = number(1500, low=20)
    turned: int = number(24, low=1, high=200)
    after: str | None = place(existing=True)
    arm: str | None = None
    output: str | None = place()
