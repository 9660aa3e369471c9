"""The arms of an experiment: ways to come by the images that an estimator is fine-tuned on.

An arm is a record in a file of its own (posegen.arms.kinds, or a plug-in's entry point `posegen.arms`); nothing else in
the tree knows an arm by its name. To import this costs no torch: reports use it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

from posegen.errors import ConfigError, did_you_mean
from posegen.registry import records

if TYPE_CHECKING:
    from torch import Tensor

    from posegen.adversarial.target import GeneratorTarget
    from posegen.body.model import BodyModel
    from posegen.config import PosegenConfig
    from posegen.scene import Scene

BEFORE = "before"  # no arm: the estimator that is not fine-tuned


class Proposal(Protocol):
    """The scenes of an arm."""

    def __call__(self, ids: Tensor, /) -> Scene:
        """ids (N,) int64 -> N scenes, a function of the seed and the ids alone."""


@dataclass(frozen=True)
class Given:
    """What an arm may propose from.

    Attributes:
        config: as the arm's `configure` made it.
        poses: (P,24,3) rad, the pool of real poses.
        body: poses joints for framing.
        subjects: how many the renderer has.
        generator_state: of the trained generator, for arms that train one.
        chosen: (N,) int64, ids that selection chose.
        target: the user's own domain, for arms that are shown it.
    """

    config: PosegenConfig
    poses: Tensor
    body: BodyModel
    subjects: int
    generator_state: Mapping[str, Tensor] | None = None
    chosen: Tensor | None = None
    target: GeneratorTarget | None = None


def unchanged(config: PosegenConfig) -> PosegenConfig:
    return config


def nothing(config: PosegenConfig) -> None:
    del config


@dataclass(frozen=True)
class Arm:
    """One way to come by training images.

    Attributes:
        name: in dataset.arms, in folders, in tables.
        label, meaning, colour, marker: how a report tells and draws it; the marker is matplotlib's.
        place: in tables, from the plainest to the method itself.
        propose: ids (N,) int64 -> Scene, a function of the seed and the id alone. None for an arm that has no rows: it
            is fine-tuned on source and target alone.
        configure: what the arm changes in the configuration.
        check: raises where the configuration lacks what the arm needs; called before anything starts.
        trains_generator: a generator is trained first, adversarially.
        follows: takes part in rounds: generate, fine-tune, generate against the fine-tuned estimator.
        shown_target: whether the target is shown to it, where there is one: equal information is part of a comparison.
        selects: with `dataset.selection` its rows are chosen among candidates of its own; where the target is shown to
            it only if there is one, for hardness harms without aim.
        row_keys: top-level parts of the configuration that its rows depend on beside those of every arm.
    """

    name: str
    label: str
    meaning: str
    colour: str
    marker: str
    place: int
    propose: Callable[[Given], Proposal] | None
    configure: Callable[[PosegenConfig], PosegenConfig] = unchanged
    check: Callable[[PosegenConfig], None] = nothing
    trains_generator: bool = False
    follows: bool = False
    shown_target: bool = False
    selects: bool = False
    row_keys: tuple[str, ...] = ()


@cache
def _known() -> dict[str, Arm]:
    from posegen.arms import kinds

    arms: list[Arm] = records(kinds, "ARM", "posegen.arms")
    return {arm.name: arm for arm in sorted(arms, key=lambda arm: arm.place)}


def names() -> list[str]:
    """All arms, from the plainest to the method itself."""
    return list(_known())


def known(name: str) -> Arm | None:
    """The arm of a name, None if there is none: results may name an arm that this installation lacks."""
    return _known().get(name)


def arm_of(name: str) -> Arm:
    """The arm of a name. Raises ConfigError with the valid names."""
    arm = known(name)
    if arm is None:
        hint = did_you_mean(name, names())
        raise ConfigError(f"unknown arm {name!r}{hint}", where="dataset.arms", choices=names())
    return arm


def in_order(arms: Iterable[str]) -> list[str]:
    """Names once each, `before` first, the known ones in their places, the others after them."""
    places = {BEFORE: -1, **{name: arm.place for name, arm in _known().items()}}
    last = max(places.values()) + 1
    return sorted(dict.fromkeys(arms), key=lambda name: (places.get(name, last), name))


def method_of(arms: Sequence[str]) -> str | None:
    """The arm that an experiment is about: the method itself where it is among them, else the last one tuned."""
    tuned = [name for name in arms if name != BEFORE]
    following = [name for name in tuned if (arm := known(name)) is not None and arm.follows]
    named = following or tuned
    return named[-1] if named else None
