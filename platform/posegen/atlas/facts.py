"""The facts of a set of pictures as a table, and what each fact is called in sentences.

Dimensions: N pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posegen.atlas.pose_facts import Numbers

Labels = NDArray[np.str_]


@dataclass(frozen=True)
class Fact:
    """A number of every picture and how one speaks of it.

    Attributes:
        title: of an axis, with its unit.
        more: the sentence for values above a threshold, with {} for it.
        less: the sentence for the others.
        unit: what the number is multiplied with before it is said, so that 0.35 becomes 35 %.
        digits: after the point.
        edges: of the bins in which the error over it is shown; empty where it is not shown.
        in_tree: whether the regression tree may ask for it.
    """

    title: str
    more: str
    less: str
    unit: float = 1.0
    digits: int = 0
    edges: tuple[float, ...] = ()
    in_tree: bool = True

    def said(self, value: float) -> str:
        text = f"{value * self.unit:.{self.digits}f}"
        return ("0" if float(text) == 0 else text).replace("-", "−")


KNOWN: dict[str, Fact] = {
    "trunk_tilt_deg": Fact("tilt of the trunk (°)", "trunk tilted more than {}° from upright",
                           "trunk within {}° of upright", edges=(0, 15, 30, 45, 60, 90, 120, 180)),
    "lean_forward_deg": Fact("lean forwards (°)", "trunk leaning more than {}° forwards",
                             "trunk leaning at most {}° forwards"),
    "twist_deg": Fact("twist of shoulders against hips (°)", "shoulders twisted more than {}° against the hips",
                      "shoulders within {}° of the hips"),
    "pelvis_height": Fact("height of the pelvis (share of the leg's length)",
                          "pelvis higher than {} % of the legs' length above the lowest joint",
                          "pelvis at most {} % of the legs' length above the lowest joint", unit=100,
                          edges=(0, 0.3, 0.5, 0.7, 0.85, 1.0, 1.15, 2.5)),
    "hip_bend_most_deg": Fact("bend of the more bent hip (°)", "a hip bent more than {}°", "both hips bent at most {}°",
                              edges=(0, 20, 40, 60, 80, 100, 180)),
    "knee_bend_most_deg": Fact("bend of the more bent knee (°)", "a knee bent more than {}°",
                               "both knees bent at most {}°", edges=(0, 20, 40, 60, 80, 100, 180)),
    "elbow_bend_most_deg": Fact("bend of the more bent elbow (°)", "an elbow bent more than {}°",
                                "both elbows bent at most {}°"),
    "legs_apart_deg": Fact("angle between the thighs (°)", "thighs more than {}° apart", "thighs at most {}° apart"),
    "foot_lift": Fact("height of one ankle above the other (share of the leg's length)",
                      "one foot more than {} % of the leg's length above the other",
                      "feet within {} % of the leg's length of one height", unit=100),
    "arm_height_most": Fact("height of the higher wrist above its shoulder (share of the arm's length)",
                            "a wrist more than {} % of the arm's length above its shoulder",
                            "no wrist more than {} % of the arm's length above its shoulder", unit=100,
                            edges=(-1, -0.6, -0.3, 0, 0.3, 0.6, 1)),
    "wrists_apart": Fact("wrists apart, left to right (shoulder widths)", "wrists more than {} shoulder widths apart",
                         "wrists at most {} shoulder widths apart or crossed", digits=1),
    "from_front_deg": Fact("view away from the front (°)", "seen from more than {}° off the front",
                           "seen from within {}° of the front", edges=(0, 30, 60, 90, 120, 150, 180)),
    "azimuth_deg": Fact("azimuth (°)", "camera more than {}° towards the person's left",
                        "camera at most {}° towards the person's left", in_tree=False),
    "elevation_deg": Fact("elevation of the camera (°)", "camera more than {}° above the horizon",
                          "camera at most {}° above the horizon", edges=(-90, -15, 0, 15, 30, 45, 60, 90)),
    "along_trunk_deg": Fact("view along the trunk (°)", "seen from more than {}° towards the head",
                            "seen from at most {}° towards the head"),
    "roll_deg": Fact("roll of the camera (°)", "camera rolled by more than {}°", "camera rolled by at most {}°",
                     in_tree=False),
    "distance_m": Fact("distance of the camera (m)", "camera more than {} m away", "camera at most {} m away", digits=1,
                       edges=(0, 2, 2.5, 3, 4, 5, 7, 10, 30)),
    "size": Fact("size of the person (share of the picture's side)", "person larger than {} % of the picture",
                 "person at most {} % of the picture", unit=100, edges=(0, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 1.5)),
    "hidden": Fact("joints of arms and legs hidden by the own body (share)",
                   "more than {} % of the limbs' joints behind the own body",
                   "at most {} % of the limbs' joints behind the own body", unit=100,
                   edges=(0, 0.04, 0.12, 0.2, 0.29, 0.37, 1.01)),
    "cut_off": Fact("joints of arms and legs outside the picture (share)",
                    "more than {} % of the limbs' joints outside the picture",
                    "at most {} % of the limbs' joints outside the picture", unit=100),
    "brightness": Fact("brightness of the picture (0 to 1)", "picture brighter than {}", "picture at most {} bright",
                       digits=2, edges=(0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 1.01)),
    "person_brightness": Fact("brightness of the person (0 to 1)", "person brighter than {}",
                              "person at most {} bright", digits=2),
    "contrast": Fact("contrast of the person against the surroundings (0 to 1)", "contrast above {}",
                     "contrast at most {}", digits=2, edges=(0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 1)),
    "ambient": Fact("share of ambient light", "more than {} % ambient light", "at most {} % ambient light", unit=100),
    "light_behind_deg": Fact("light from behind the person (°)", "light from more than {}° off the line of sight",
                             "light from within {}° of the line of sight", edges=(0, 30, 60, 90, 120, 150, 180)),
}  # fmt: skip

LABELS = {"subject": "subject", "background": "background"}
# What is behind the person, as one says it.
BEHIND = {"photo": "a photo", "room": "a room", "outdoor": "open country", "snow": "snow", "noise": "a pattern",
          "white": "white"}  # fmt: skip


@dataclass(frozen=True)
class FactTable:
    """Facts of N pictures, by name."""

    numbers: Mapping[str, Numbers]  # (N,) each, see KNOWN
    labels: Mapping[str, Labels]  # (N,) each: subject, background

    def __len__(self) -> int:
        return len(next(iter(self.numbers.values())))

    def __getitem__(self, name: str) -> Numbers:
        return self.numbers[name]

    def take(self, rows: Numbers | NDArray[np.int64] | NDArray[np.bool_]) -> FactTable:
        """Some of the rows, by index or mask."""
        return FactTable(
            {name: values[rows] for name, values in self.numbers.items()},
            {name: values[rows] for name, values in self.labels.items()},
        )

    @classmethod
    def joined(cls, tables: Sequence[FactTable]) -> FactTable:
        """The rows of several tables, one after the other."""
        first = tables[0]
        return cls(
            {name: np.concatenate([table.numbers[name] for table in tables]) for name in first.numbers},
            {name: np.concatenate([table.labels[name] for table in tables]) for name in first.labels},
        )
