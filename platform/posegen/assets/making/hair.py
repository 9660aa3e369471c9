"""Procedural hair: a thickened scalp, with a curtain for long hair and a tail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posegen.assets.making.surface import Surface
from posegen.assets.making.textures import Colour, waves
from posegen.body.joint_sets import SMPL24

Array = NDArray[np.float64]

# Height of the hairline above the eyes (m) by angle from straight ahead (degrees): forehead, temple, ear, nape.
HAIRLINE = ([0, 35, 60, 75, 85, 105, 120, 180], [0.072, 0.066, 0.04, 0.022, 0.034, 0.034, -0.045, -0.095])


@dataclass(frozen=True)
class Hair:
    """A style.

    Args:
        thickness_m: of the hair over the scalp; 0 leaves the head bald.
        length_m: of a curtain at the sides and the back, from the ears down; 0 for none.
        tail: whether a tail hangs at the back.
        receding_m: how far the hairline is raised.
        lumps: unevenness, a share of the thickness.
    """

    colour: Colour
    thickness_m: float = 0.012
    length_m: float = 0.0
    tail: bool = False
    receding_m: float = 0.0
    lumps: float = 0.2


def _angle_deg(points: Array, centre: Array) -> Array:
    return np.degrees(np.abs(np.arctan2(points[:, 0] - centre[0], points[:, 2] - centre[2])))


def grow(hair: Hair, skin: Surface, eyes: Array, generator: np.random.Generator) -> list[Surface]:
    """The meshes of a style; `eyes` (2,3) m are the centres of the eyes."""
    if hair.thickness_m <= 0:
        return []
    centre = eyes.mean(0) - [0, 0, 0.075]
    parts = [_scalp(hair, skin, centre, generator)]
    if hair.length_m > 0:
        parts.append(_curtain(hair, skin, centre, generator))
    if hair.tail:
        parts.append(_tail(hair, skin, centre, generator))
    return parts


def _strands(points: Array, colour: Colour, generator: np.random.Generator) -> Array:
    """Hair colour (N,3) with lighter and darker strands."""
    around = np.degrees(np.arctan2(points[:, 0], points[:, 2]))
    shade = 1 + 0.12 * np.sin(around / 5) + 0.08 * waves(points, 0.04, generator)
    return np.clip(np.array(colour) * shade[:, None], 0.01, 1)


def _scalp(hair: Hair, skin: Surface, centre: Array, generator: np.random.Generator) -> Surface:
    line = centre[1] + hair.receding_m + np.interp(_angle_deg(skin.points, centre), *HAIRLINE)
    above = skin.points[:, 1] - line
    above = np.where(skin.weights[:, SMPL24.index("head")] > 0.2, above, -1.0)
    cap = skin.clipped(above)
    line = centre[1] + hair.receding_m + np.interp(_angle_deg(cap.points, centre), *HAIRLINE)
    rise = np.clip((cap.points[:, 1] - line) / 0.03, 0, 1)
    smooth = rise * rise * (3 - 2 * rise)
    uneven = 1 + hair.lumps * waves(cap.points, 0.05, generator)
    cap = cap.inflated(0.002 + hair.thickness_m * smooth * np.clip(uneven, 0.3, 2))
    return cap.painted(_strands(cap.points, hair.colour, generator)).decimated(700)


def _bound(points: Array, faces: NDArray[np.int64], skin: Surface, low_y: float, high_y: float) -> Surface:
    """Loose hair follows the head above `high_y` and the chest below `low_y`; its shape follows the nearest skin."""
    from scipy.spatial import cKDTree

    _, near = cKDTree(skin.points).query(points, k=4)
    share = np.clip((points[:, 1] - low_y) / (high_y - low_y), 0, 1)
    weights = np.zeros((len(points), 24))
    weights[:, SMPL24.index("head")] = share
    weights[:, SMPL24.index("spine3")] = 1 - share
    return Surface(points, skin.shapedirs[near].mean(1), weights, faces, np.zeros_like(points))


def _grid_faces(rows: int, columns: int, closed: bool) -> NDArray[np.int64]:
    index = np.arange(rows * columns).reshape(rows, columns)
    right = np.roll(index, -1, 1) if closed else index[:, 1:]
    left = index if closed else index[:, :-1]
    a, b, c, d = left[:-1].ravel(), right[:-1].ravel(), right[1:].ravel(), left[1:].ravel()
    return np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def _curtain(hair: Hair, skin: Surface, centre: Array, generator: np.random.Generator) -> Surface:
    rows, columns = 10, 28
    angle = np.radians(np.linspace(72, 288, columns))
    down = np.linspace(0, 1, rows)[:, None]
    y = centre[1] + 0.06 - down * (hair.length_m + 0.06) + 0 * angle
    # Out over the ears, then in towards the neck, then out over the shoulders.
    swell = 0.012 * np.sin(np.pi * np.clip(2 * down, 0, 1)) - 0.012 * down
    ripple = 0.004 * np.sin(9 * angle) * down
    radius_x, radius_z = (
        0.088 + hair.thickness_m * 0.5 + swell + ripple,
        0.112 + hair.thickness_m * 0.5 + swell + ripple,
    )
    points = np.stack([centre[0] + radius_x * np.sin(angle), y, centre[2] + radius_z * np.cos(angle)], -1)
    points = points.reshape(-1, 3)
    surface = _bound(points, _grid_faces(rows, columns, False), skin, centre[1] - 0.3, centre[1] - 0.12)
    return surface.painted(_strands(points, hair.colour, generator))


def _tail(hair: Hair, skin: Surface, centre: Array, generator: np.random.Generator) -> Surface:
    rows, columns = 9, 10
    along = np.linspace(0, 1, rows)
    angle = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    radius = 0.035 * np.sin(np.pi * np.clip(along * 0.85 + 0.12, 0, 1))
    middle_y = centre[1] + 0.05 - 0.28 * along**1.3
    middle_z = centre[2] - 0.115 - 0.05 * np.sin(np.pi * along**0.6)
    points = np.stack(
        [
            centre[0] + radius[:, None] * np.sin(angle),
            middle_y[:, None] + 0 * angle,
            middle_z[:, None] + radius[:, None] * np.cos(angle),
        ],
        -1,
    ).reshape(-1, 3)
    surface = _bound(points, _grid_faces(rows, columns, True), skin, centre[1] - 0.4, centre[1] - 0.15)
    return surface.painted(_strands(points, hair.colour, generator))
