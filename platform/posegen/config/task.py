"""What is known of an arm's work only at run time, beside the configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from posegen.config.schema import PosegenConfig


@dataclass(frozen=True)
class TargetFiles:
    """What a run knows of the target.

    Attributes:
        people: keypoints, pictures and boxes, and who is held out (posegen.target.people).
        lifted: those that are shown, in the world with their cameras (posegen.target.lifted).
        weights: .npy, of the lifted people; None weighs all alike.
    """

    people: str
    lifted: str
    weights: str | None = None


@dataclass(frozen=True)
class ArmTask:
    """One round of one arm: what a worker that trains, renders or fine-tunes for it is given.

    Attributes:
        config: of the experiment, with what the arm changes in it.
        arm: the arm's name.
        round: counts from 0.
        generator_version: of the rows that are rendered; each round's generator is another.
        generator_file: weights of the arm's trained generator.
        estimator_weights: of the estimator at the beginning of this round; None takes those of the configuration.
        chosen_file: row ids that selection chose (.npy).
        measured_by: which error of the estimator its rows carry; candidates carry the one that they are ranked by.
        source_rows: folder of shards of the source's own kind.
        earlier_weights: of the estimator at the beginning of the round before this one.
        target: the user's own domain, for arms that are shown it.
        online: the generator comes by update() while it is trained, not from a file.
        gallery: folder that sheets of generated people go into while a generator is trained; None makes none.
    """

    config: PosegenConfig
    arm: str = ""
    round: int = 0
    generator_version: int = 0
    generator_file: str | None = None
    estimator_weights: str | None = None
    chosen_file: str | None = None
    measured_by: str = "mpjpe"
    source_rows: str | None = None
    online: bool = False
    earlier_weights: str | None = None
    target: TargetFiles | None = None
    gallery: str | None = None

    def at(self, round_: int, weights: Path | None) -> ArmTask:
        """The task of a round that begins with these weights."""
        return replace(
            self,
            round=round_,
            generator_version=round_,
            estimator_weights=None if weights is None else str(weights),
        )
