"""Checks of annotations that would otherwise turn into wrong numbers: units, joint counts, NaN."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from posegen.errors import DataError

# A person's largest extent in metres: a crouching child to an athlete with stretched arms.
_PERSON_M = (0.4, 3.2)
_UNITS = {"m": 1.0, "cm": 100.0, "mm": 1000.0}
MOST_RAD, MOST_BETA = 1000.0, 1000.0  # of SMPL's parameters; fits that ran away reach some tens
FARTHEST_M = 1e4  # of a joint from the camera or the world's origin


def person_extent(joints: NDArray) -> float:
    """Median over people of the longest side of the box around their joints (N,J,3), in the joints' unit."""
    sides = np.nanmax(joints, axis=1) - np.nanmin(joints, axis=1)
    return float(np.nanmedian(sides.max(-1)))


def unit_of(joints: NDArray) -> str | None:
    """ "m", "cm" or "mm", by the size of the people in joints (N,J,3); None where it is none of them."""
    extent = person_extent(joints)
    for unit, per_metre in _UNITS.items():
        if _PERSON_M[0] <= extent / per_metre <= _PERSON_M[1]:
            return unit
    return None


def check_unit(joints: NDArray, expected: str, where: object) -> None:
    """DataError, with the unit found, unless people in joints (N,J,3) measure what they should in `expected`."""
    found = unit_of(joints)
    if found == expected:
        _check_near(joints, FARTHEST_M * _UNITS[expected], where)
        return
    extent = person_extent(joints)
    looks = f"looks like {found}" if found else "is no size of a person in any unit"
    raise DataError(f"3D joints must be in {expected}: people measure {extent:.4g}, which {looks}", where=where)


def check_joints(joints: NDArray, count: int, where: object, names: list[str] | None = None) -> None:
    """DataError unless joints are (N,count,3) of finite numbers; `names` says which item is wrong."""
    if joints.ndim != 3 or joints.shape[1:] != (count, 3):
        raise DataError(f"expected joints of shape (N, {count}, 3), found {tuple(joints.shape)}", where=where)
    check_finite(joints, "3D joints", where, names)
    _check_near(joints, FARTHEST_M * max(_UNITS.values()), where, names)  # whatever the unit will be found to be


def _check_near(joints: NDArray, farthest: float, where: object, names: list[str] | None = None) -> None:
    near = ~(np.abs(joints) > farthest).any((1, 2))  # NaN is looked for elsewhere
    if not near.all():
        first = int(np.argmin(near))
        raise DataError(
            f"3D joints of {int((~near).sum())} item(s) lie where no camera sees them, beyond {farthest:g}; first "
            f"{names[first] if names else f'item {first}'}", where=where,
        )  # fmt: skip


def check_parameters(pose: NDArray, betas: NDArray, where: object) -> None:
    """DataError unless SMPL's pose (N,24,3) rad and betas (N,10) are numbers that a body can be posed with."""
    for what, values, most in (("pose", pose, MOST_RAD), ("betas", betas, MOST_BETA)):
        good = (np.abs(values) <= most).all(tuple(range(1, values.ndim)))  # NaN is not
        if not good.all():
            raise DataError(
                f"{what} of SMPL beyond {most:g} in {int((~good).sum())} of {len(good)} rows, first row "
                f"{int(np.argmin(good))}: damaged, or in another unit", where=where,
            )  # fmt: skip


def check_finite(values: NDArray, what: str, where: object, names: list[str] | None = None) -> None:
    """DataError where any value is NaN or infinite, with the number of items and the first one's name."""
    good = np.isfinite(values).all(tuple(range(1, values.ndim)))
    if not good.all():
        first = int(np.argmin(good))
        name = names[first] if names else f"item {first}"
        raise DataError(f"{what}: NaN or infinite values in {int((~good).sum())} item(s), first {name}", where=where)
