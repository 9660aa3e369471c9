"""Which joint of a motion capture skeleton is which of SMPL's.

Limbs and head are found by name (Acclaim, BVH of CMU, Mixamo, MotionBuilder, 3ds Max and their like); the trunk, the
neck and the collars by where they hang between those.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from posegen.body.motion.source import SourceMotion
from posegen.errors import DataError

# Names without side, lower case, letters and digits only; the first that a skeleton has is taken. Where a short name
# means one joint in one program and another elsewhere (a "shoulder" may be a collar), the unambiguous ones come first.
LIMB_NAMES: dict[str, tuple[str, ...]] = {
    "hip": ("femur", "upleg", "upperleg", "thigh", "hip"),
    "knee": ("tibia", "leg", "lowleg", "lowerleg", "shin", "calf", "knee"),
    "ankle": ("foot", "ankle"),
    "foot": ("toes", "toebase", "toe", "toe0", "ball"),
    "shoulder": ("humerus", "arm", "uparm", "upperarm", "shoulder"),
    "elbow": ("radius", "forearm", "lowarm", "lowerarm", "elbow"),
    "wrist": ("hand", "wrist"),
}
HEAD_NAMES = ("head",)
NEEDED = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")


@dataclass(frozen=True)
class JointMap:
    """Indices into a source's joints."""

    limbs: dict[str, int]  # SMPL's names of hips, knees, ankles, shoulders, elbows, wrists; feet where there are any
    trunk: tuple[int, ...]  # from the root to the joint that both arms hang on
    neck: tuple[int, ...]  # from there to the head; the chest alone where there is no head
    collars: dict[str, int]  # by SMPL's name; empty where arms hang on the chest itself

    @property
    def chest(self) -> int:
        return self.trunk[-1]


def plain(name: str) -> str:
    """A joint's name without prefix (`mixamorig:`, `Bip01 `), case and punctuation."""
    name = name.rsplit(":", 1)[-1].lower()
    return re.sub(r"[^a-z0-9]", "", re.sub(r"^bip0?1\b", "", name))


def map_joints(source: SourceMotion) -> JointMap:
    """Finds SMPL's joints in a skeleton. Raises DataError with the names that are there if one has no counterpart."""
    by_name: dict[str, int] = {}
    for index, joint in enumerate(source.joints):
        by_name.setdefault(plain(joint), index)
    limbs: dict[str, int] = {}
    for side, letter in (("left", "l"), ("right", "r")):
        for part, names in LIMB_NAMES.items():
            spelt = [f for name in names for f in (side + name, letter + name, name + side, name + letter)]
            found = next((by_name[name] for name in spelt if name in by_name), None)
            if found is not None:
                limbs[f"{side}_{part}"] = found
            elif part in NEEDED:
                raise DataError(
                    f"the skeleton of {source.name} has no joint that could be SMPL's {side}_{part}",
                    where=", ".join(spelt),
                    choices=source.joints[:60],
                )
    _check_tree(source, limbs)
    chest = _common(source, limbs["left_shoulder"], limbs["right_shoulder"])
    trunk = tuple(reversed(source.ancestors(chest)))
    head = next((by_name[name] for name in HEAD_NAMES if name in by_name), None)
    neck: tuple[int, ...] = (chest,)
    if head is not None and chest in source.ancestors(head):
        path = source.ancestors(head)
        neck = tuple(reversed(path[: path.index(chest) + 1]))
    collars = {}
    for side in ("left", "right"):
        path = source.ancestors(limbs[f"{side}_shoulder"])
        if (place := path.index(chest)) > 1:
            collars[f"{side}_collar"] = path[place - 1]
    return JointMap(limbs, trunk, neck, collars)


def _check_tree(source: SourceMotion, limbs: dict[str, int]) -> None:
    """Knees hang on hips, and so on: a name that means another joint in this skeleton is noticed here."""
    for side in ("left", "right"):
        for chain in (("hip", "knee", "ankle", "foot"), ("shoulder", "elbow", "wrist")):
            present = [f"{side}_{part}" for part in chain if f"{side}_{part}" in limbs]
            for upper, lower in itertools.pairwise(present):
                if limbs[upper] == limbs[lower] or limbs[upper] not in source.ancestors(limbs[lower]):
                    names = source.joints[limbs[upper]], source.joints[limbs[lower]]
                    raise DataError(
                        f"{names[1]!r} would be SMPL's {lower}, but does not hang on {names[0]!r}, its {upper}",
                        where=source.name,
                        choices=source.joints[:60],
                    )


def _common(source: SourceMotion, one: int, two: int) -> int:
    """The nearest joint that two others hang on."""
    above = set(source.ancestors(two))
    return next(joint for joint in source.ancestors(one) if joint in above)
