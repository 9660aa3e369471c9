"""Clothes cut from the base mesh's helper geometry (tights and skirt), and the skin that stays visible.

A garment is a region of the helper surface, given by a field that is positive inside (metres to the nearest hem), and
pushed outwards. Skin is cut away a little inside of every hem, so that none shows through the cloth when a limb bends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posegen.assets.making.surface import Surface
from posegen.assets.making.textures import Colour, cloth
from posegen.body.joint_sets import SMPL24

Array = NDArray[np.float64]
UNDER_HEM_M = 0.035  # how far skin reaches below a hem


@dataclass(frozen=True)
class Garment:
    """One piece of clothing.

    Args:
        kind: "top", "trousers", "skirt" or "shoes".
        pattern: a key of `posegen.assets.making.textures.PATTERNS`; colours: its two colours.
        reach: how far down it goes: sleeves from 0 (none) to 1 (wrist); legs from 0 (hip) to 1 (ankle); shafts of
            shoes from 0 (below the ankle) to 1 (knee).
        hem: of a top, 0 at the waist to 1 at the crotch.
        thickness_m: distance from the helper surface (trousers lie close at the waist).
        flare_m: extra distance at the hems.
        neck_m: radius of the opening for the neck.
    """

    kind: str
    pattern: str
    colours: tuple[Colour, Colour]
    reach: float = 1.0
    hem: float = 0.5
    thickness_m: float = 0.008
    flare_m: float = 0.0
    neck_m: float = 0.11


@dataclass(frozen=True)
class Landmarks:
    """Heights and widths of the zero pose at zero betas, metres."""

    joints: Array  # (24,3)

    def at(self, name: str) -> Array:
        return self.joints[SMPL24.index(name)]

    @property
    def waist_y(self) -> float:
        return float(self.at("spine1")[1] + 0.01)


def region(garment: Garment, points: Array, marks: Landmarks) -> Array:
    """Metres to the nearest hem, positive inside: (N,)."""
    x, y = np.abs(points[:, 0]), points[:, 1]
    hip_y, ankle_y = marks.at("left_hip")[1], marks.at("left_ankle")[1]
    if garment.kind == "top":
        shoulder_x, wrist_x = marks.at("left_shoulder")[0] + 0.02, marks.at("left_wrist")[0]
        sleeve = shoulder_x + garment.reach * (wrist_x - shoulder_x)
        low = marks.waist_y - garment.hem * (marks.waist_y - hip_y + 0.06)
        neck = np.linalg.norm((points - marks.at("neck") - [0, 0.03, 0.02]) / [1, 1, 1.15], axis=1) - garment.neck_m
        collar = marks.at("neck")[1] + 0.04 - y
        return np.minimum(np.minimum(y - low, sleeve - x), np.minimum(neck, collar))
    if garment.kind == "trousers":
        low = hip_y - 0.06 + garment.reach * (ankle_y + 0.01 - hip_y + 0.06)
        return np.minimum(marks.waist_y + 0.05 - y, y - low)
    if garment.kind == "skirt":
        low = hip_y - 0.1 + garment.reach * (ankle_y + 0.25 - hip_y + 0.1)
        return y - low
    knee_y = marks.at("left_knee")[1]
    return ankle_y + 0.03 + garment.reach * (knee_y - ankle_y) - y


def sew(garment: Garment, tights: Surface, skirt: Surface, marks: Landmarks, generator: np.random.Generator) -> Surface:
    """The garment's mesh."""
    surface = skirt if garment.kind == "skirt" else tights
    surface = surface.clipped(region(garment, surface.points, marks))
    inside = np.clip(region(garment, surface.points, marks), 0, None)
    colours = cloth(surface.points, garment.pattern, *garment.colours, generator)
    folds = 0.002 * np.sin(90 * surface.points[:, 1] + 25 * surface.points[:, 0])
    offset = garment.thickness_m + garment.flare_m * np.exp(-inside / 0.08) + np.clip(folds, 0, None)
    if garment.kind == "trousers":  # close to the body at the waist, so that a top goes over it
        loose = np.clip((marks.waist_y - 0.05 - surface.points[:, 1]) / 0.2, 0, 1)
        offset = loose * offset + (1 - loose) * min(0.001, garment.thickness_m)
    dressed = surface.painted(colours).inflated(offset)
    return _soled(dressed, garment) if garment.kind == "shoes" else dressed


def _soled(shoe: Surface, garment: Garment) -> Surface:
    """Flattens the bottom of a shoe, lowers it by a sole and paints that in the second colour."""
    points, albedo = shoe.points.copy(), shoe.albedo.copy()
    ground = points[:, 1].min()
    sole = points[:, 1] < ground + 0.022
    points[sole, 1] = ground - 0.008
    albedo[sole] = garment.colours[1]
    return Surface(points, shoe.shapedirs, shoe.weights, shoe.faces, albedo)


def bare(skin: Surface, garments: list[Garment], marks: Landmarks) -> Surface:
    """The skin that no garment hides."""
    for garment in garments:
        if garment.kind == "skirt":
            continue  # open from below
        margin = 0.0 if garment.kind == "shoes" and garment.reach < 0.1 else UNDER_HEM_M
        skin = skin.clipped(margin - region(garment, skin.points, marks))
    return skin
