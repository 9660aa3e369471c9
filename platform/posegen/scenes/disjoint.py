"""The proof that nothing is shown twice: tests against training, and target parts against both."""

from __future__ import annotations

import torch

from posegen.errors import ConfigError
from posegen.scenes.split import SECTOR_GAP_DEG, WINDOW_GAP_S, Split, SplitPart

MIN_BODY_DISTANCE = 0.1  # in shape space


def prove_disjoint(split: Split, min_body_distance: float = MIN_BODY_DISTANCE) -> list[str]:
    """Checks who sees what; returns the reasons why nothing is shared.

    No test shares anything with what is trained or tuned on. A target part, whose pictures come without labels, is of
    the clips of its own test, but of other half seconds of them; its people, bodies and backgrounds are of no other
    part, its clips of no training part, its cameras of no test.

    Raises ConfigError with all that is shared.
    """
    shared: list[str] = []
    for test in split.tests.values():
        for part in split.parts.values():
            shared += _shared(test, part, min_body_distance)
            shared += _cameras(test, part)
    for name, target in split.targets.items():
        for other in (*split.parts.values(), *split.tests.values()):
            own = other.name == name
            shared += _shared(target, other, min_body_distance, clips=not own)
            if other.name in split.tests:
                shared += _cameras(target, other)
            if own and {target.windows, other.windows} != {"even", "odd"}:
                shared.append(f"{target.name} and {name} may share moments: windows {target.windows}, {other.windows}")
    if shared:
        raise ConfigError("the split is not disjoint: " + "; ".join(shared), where=split.name)
    return [
        f"clips, subjects and background pools of {len(split.tests)} tests occur in none of {len(split.parts)} parts",
        f"their bodies differ by at least {min_body_distance} in shape space",
        f"their cameras' azimuths differ by at least {2 * SECTOR_GAP_DEG:g} degrees",
        f"{len(split.targets)} target parts show half seconds of their tests' clips that the tests do not, at least "
        f"{2 * WINDOW_GAP_S:g} s away, and people, bodies and backgrounds of no other part",
    ]


def _shared(one: SplitPart, two: SplitPart, min_body_distance: float, clips: bool = True) -> list[str]:
    pair = f"{one.name} and {two.name}"
    shared = []
    for what, a, b in (
        ("clips", one.clips if clips else (), two.clips),
        ("subjects", one.subjects, two.subjects),
        ("background pools", (one.background.pool,), (two.background.pool,)),
    ):
        if common := sorted(set(a) & set(b)):
            shared.append(f"{pair} share {what} {', '.join(common)}")
    nearest = float(torch.cdist(one.bodies.betas(), two.bodies.betas()).min())
    if nearest < min_body_distance:
        shared.append(f"{pair} share a body: nearest shapes are {nearest:.3f} apart")
    return shared


def _cameras(one: SplitPart, two: SplitPart) -> list[str]:
    if {one.camera.lattice, two.camera.lattice} == {"even", "odd"}:
        return []
    return [f"{one.name} and {two.name} may share cameras: lattices {one.camera.lattice}, {two.camera.lattice}"]
