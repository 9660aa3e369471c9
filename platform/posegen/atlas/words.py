"""Words for poses and views: of each picture one word in each of several families, and names of groups of pictures.

A group is named by what most of its pictures have, first the stance, then what sets it apart from all others.

Dimensions: N pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from posegen.atlas.facts import BEHIND, FactTable, Labels

MOST = 0.55  # share of a group's pictures that must have a word before it is in the name
APART = 0.12  # how much more often than elsewhere, before a word that is not told always is
OFTEN, OFTEN_APART = 0.33, 0.15  # the same for words that are told as `often`
PLAIN = ""  # the word of pictures of which a family has nothing to tell

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Family:
    """Words that exclude each other. The first whose condition holds is a picture's; PLAIN where none does.

    Attributes:
        always: whether the name tells it even where it is as common elsewhere.
        ordinary: words that say little: they are told only if nothing else is.
        kin: wider words for several of the family's own, told where none of those is frequent enough.
    """

    name: str
    words: Mapping[str, Callable[[FactTable], Mask]]
    always: bool = False
    ordinary: tuple[str, ...] = ()
    kin: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of(self, facts: FactTable) -> Labels:
        """(N,) the word of each picture."""
        masks = [condition(facts) for condition in self.words.values()]
        return np.select(masks, list(self.words), default=PLAIN).astype(np.str_)


def _arms(name: str) -> Callable[[FactTable], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    return lambda facts: (facts[f"left_arm_{name}"], facts[f"right_arm_{name}"])


def _both(name: str, low: float) -> Callable[[FactTable], Mask]:
    return lambda facts: np.minimum(*_arms(name)(facts)) > low


def _one(name: str, low: float) -> Callable[[FactTable], Mask]:
    return lambda facts: np.maximum(*_arms(name)(facts)) > low


STANCE = Family("stance", {
    "upside down": lambda f: f["trunk_tilt_deg"] > 115,
    "lying": lambda f: (f["trunk_tilt_deg"] > 60) & (f["pelvis_height"] < 0.45),
    "bent forward": lambda f: (f["lean_forward_deg"] > 35) & (f["pelvis_height"] > 0.45),
    "leaning back": lambda f: f["lean_forward_deg"] < -25,
    "leaning to the side": lambda f: f["trunk_tilt_deg"] > 35,
    "crouched": lambda f: f["pelvis_height"] < 0.75,
    "upright": lambda f: f["trunk_tilt_deg"] <= 35,
}, always=True, ordinary=("upright",))  # fmt: skip

LEGS = Family("legs", {
    "one leg up": lambda f: (f["foot_lift"] > 0.35) & (f["trunk_tilt_deg"] < 60),
    "one knee drawn up": lambda f: (f["hip_bend_most_deg"] > 70) & (
        np.abs(f["left_hip_bend_deg"] - f["right_hip_bend_deg"]) > 45),
    "legs drawn up": lambda f: np.minimum(f["left_hip_bend_deg"], f["right_hip_bend_deg"]) > 70,
    "legs wide apart": lambda f: f["legs_apart_deg"] > 60,
    "one knee bent": lambda f: np.abs(f["left_knee_bend_deg"] - f["right_knee_bend_deg"]) > 45,
    "knees bent": lambda f: np.minimum(f["left_knee_bend_deg"], f["right_knee_bend_deg"]) > 40,
    "in stride": lambda f: (f["legs_apart_deg"] > 35) & (f["trunk_tilt_deg"] < 35),
}, kin={"legs bent": ("one knee drawn up", "legs drawn up", "knees bent", "one knee bent")})  # fmt: skip

ARMS = Family("arms", {
    "arms raised": _both("height", 0.25),
    "one arm raised": _one("height", 0.35),
    "arms crossed": lambda f: (f["wrists_apart"] < -0.15) & (np.minimum(*_arms("ahead")(f)) > 0.0),
    "arms behind the back": lambda f: np.maximum(*_arms("ahead")(f)) < -0.25,
    "arms stretched out to the sides": _both("outwards", 0.65),
    "arms stretched forwards": _both("ahead", 0.6),
    "hands together": lambda f: f["wrist_gap"] < 0.6,
    "elbows bent": lambda f: np.minimum(f["left_elbow_bend_deg"], f["right_elbow_bend_deg"]) > 60,
    "arms down": lambda f: f["arm_height_most"] < -0.6,
}, kin={"an arm raised": ("arms raised", "one arm raised")})  # fmt: skip

HEIGHT = Family("height", {
    "steeply from above": lambda f: f["elevation_deg"] > 50,
    "from above": lambda f: f["elevation_deg"] > 22,
    "from below": lambda f: f["elevation_deg"] < -12,
}, kin={"from above": ("steeply from above", "from above")})  # fmt: skip

SIDE = Family("side", {
    "from the head": lambda f: f["along_trunk_deg"] > 60,
    "from the feet": lambda f: f["along_trunk_deg"] < -60,
    "from the front": lambda f: f["from_front_deg"] <= 50,
    "from behind": lambda f: f["from_front_deg"] >= 130,
    "from the side": lambda f: (f["from_front_deg"] > 50) & (f["from_front_deg"] < 130),
}, always=True)  # fmt: skip

RANGE = Family("range", {
    "very near": lambda f: f["distance_m"] < 2.0,
    "near": lambda f: f["distance_m"] < 2.6,
    "far away": lambda f: f["distance_m"] > 6.0,
})  # fmt: skip

HIDDEN = Family("hidden", {"half hidden by the own body": lambda f: f["hidden"] >= 0.25})

LIGHT = Family("light", {
    "in the dark": lambda f: f["brightness"] < 0.3,
    "against the light": lambda f: f["light_behind_deg"] > 120,
    "hardly any contrast": lambda f: f["contrast"] < 0.04,
    "in bright light": lambda f: f["brightness"] > 0.65,
})  # fmt: skip


def _behind(kind: str) -> Callable[[FactTable], Mask]:
    return lambda facts: facts.labels["background"] == kind


BACKGROUND = Family("background", {f"before {said}": _behind(kind) for kind, said in BEHIND.items()})

# What names are made of. Groups are not made by background: where one is frequent in a group, that is chance.
NAMING = (STANCE, LEGS, ARMS, HEIGHT, SIDE, RANGE, HIDDEN, LIGHT)
FAMILIES = (*NAMING, BACKGROUND)


def words_of(facts: FactTable) -> dict[str, Labels]:
    """Family -> (N,) each picture's word."""
    return {family.name: family.of(facts) for family in FAMILIES}


def shares(words: Labels) -> dict[str, float]:
    """How often each word occurs, the most frequent first; PLAIN left out."""
    found, counts = np.unique(words, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(found[i]): float(counts[i] / len(words)) for i in order if found[i] != PLAIN}


def name_of(words: Mapping[str, Labels], chosen: Mask) -> str:
    """The name of the chosen pictures among all: `crouched, arms raised, seen from above and behind`."""
    told = {family.name: _telling(family, words[family.name], chosen) for family in NAMING}
    if told["stance"] in STANCE.ordinary and _sure(told["legs"]) and _sure(told["arms"]):
        told["stance"] = PLAIN
    height, side = told["height"], told["side"]
    if height.startswith("often "):
        seen = f"{side}, {height}" if side else height
    else:
        seen = " and ".join(part for part in (height, side.removeprefix("from ") if height else side) if part)
    parts = [told["stance"], told["legs"], told["arms"], f"seen {seen}" if seen else PLAIN]
    parts += [told[name] for name in ("range", "hidden", "light")]
    return ", ".join(part for part in parts if part) or "of all kinds"


def _sure(word: str) -> bool:
    return bool(word) and not word.startswith("often ")


def _telling(family: Family, words: Labels, chosen: Mask) -> str:
    """What a family adds to the chosen pictures' name; PLAIN if nothing."""
    inside, everywhere = shares(words[chosen]), shares(words)
    told = [(word, share, everywhere[word]) for word, share in inside.items()]
    for wider, those in family.kin.items():
        own, all_ = (sum(found.get(word, 0.0) for word in those) for found in (inside, everywhere))
        if own > max((inside.get(word, 0.0) for word in those), default=0.0):
            told.append((wider, own, all_))
    for word, share, elsewhere in told:
        if share >= MOST and (family.always or share >= elsewhere + APART):
            return word
    if not family.always:
        often = [(share, word) for word, share, elsewhere in told if share >= max(OFTEN, elsewhere + OFTEN_APART)]
        return f"often {max(often)[1]}" if often else PLAIN
    if len(told) > 1 and told[0][1] + told[1][1] >= MOST + 0.15:
        first, second = told[0][0], told[1][0]
        return f"{first} or {second.removeprefix('from ') if family is SIDE else second}"
    return PLAIN


def distinct(names: Sequence[str]) -> list[str]:
    """The same names with numbers behind those that occur more than once."""
    counted: dict[str, int] = {}
    told = []
    for name in names:
        counted[name] = counted.get(name, 0) + 1
        told.append(f"{name} ({counted[name]})" if list(names).count(name) > 1 else name)
    return told
