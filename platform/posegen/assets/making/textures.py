"""Procedural colours of skin and cloth, as functions of position on the body in the zero pose. Seeded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Colour = tuple[float, float, float]


def along_limb_m(points: Array) -> Array:
    """A coordinate (N,) that runs down the trunk and out along the arms, continuous at the shoulder."""
    return np.where(np.abs(points[:, 0]) > 0.2, 0.4 + np.abs(points[:, 0]) - 0.2, 0.4 - (points[:, 1] - 0.477))


def waves(points: Array, period_m: float, generator: np.random.Generator, count: int = 10) -> Array:
    """Smooth noise (N,) of about unit variance: a sum of plane waves in random directions."""
    directions = generator.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    scale = 2 * np.pi / (period_m * generator.uniform(0.7, 1.4, count))
    phase = generator.uniform(0, 2 * np.pi, count)
    return np.sin(points @ (directions * scale[:, None]).T + phase).sum(1) * np.sqrt(2 / count)


def _mix(a: Colour, b: Colour, share: Array) -> Array:
    share = np.clip(share, 0, 1)[:, None]
    return (1 - share) * np.array(a) + share * np.array(b)


def _square(phase: Array) -> Array:
    """0 or 1 with the rim softened over a tenth of the period."""
    return np.clip(0.5 + 5 * np.sin(2 * np.pi * phase), 0, 1)


def _solid(points: Array, a: Colour, b: Colour, generator: np.random.Generator) -> Array:
    return np.tile(np.array(a), (len(points), 1))


def _stripes(points: Array, a: Colour, b: Colour, generator: np.random.Generator) -> Array:
    return _mix(a, b, _square(along_limb_m(points) / generator.uniform(0.09, 0.13)))


def _upright(points: Array, a: Colour, b: Colour, generator: np.random.Generator) -> Array:
    """Stripes along the trunk and the arms."""
    across = np.where(np.abs(points[:, 0]) > 0.2, points[:, 1] - 0.477, points[:, 0])
    return _mix(a, b, _square(across / generator.uniform(0.08, 0.1) + 0.25))


def _checks(points: Array, a: Colour, b: Colour, generator: np.random.Generator) -> Array:
    period = generator.uniform(0.12, 0.16)
    one = _square(along_limb_m(points) / period)
    two = _square(np.where(np.abs(points[:, 0]) > 0.2, points[:, 1], points[:, 0]) / period)
    return _mix(a, b, 0.5 * one + 0.5 * two)


def _patches(points: Array, a: Colour, b: Colour, generator: np.random.Generator) -> Array:
    return _mix(a, b, 0.5 + 4 * waves(points, 0.22, generator))


def _mottled(points: Array, a: Colour, b: Colour, generator: np.random.Generator) -> Array:
    return _mix(a, b, 0.5 + 0.4 * waves(points, 0.09, generator))


def _two_tone(points: Array, a: Colour, b: Colour, generator: np.random.Generator) -> Array:
    """Sleeves, or one band round the trunk, in the second colour."""
    return _mix(a, b, 80 * (np.abs(points[:, 0]) - 0.17))


def _badge(points: Array, a: Colour, b: Colour, generator: np.random.Generator) -> Array:
    """A large print on the chest."""
    inside = np.minimum(0.1 - np.abs(points[:, 0]), 0.08 - np.abs(points[:, 1] - 0.34))
    return _mix(a, b, np.where(points[:, 2] > 0, 80 * inside, 0))


PATTERNS = {
    "solid": _solid, "stripes": _stripes, "upright": _upright, "checks": _checks, "patches": _patches,
    "mottled": _mottled, "two_tone": _two_tone, "badge": _badge,
}  # fmt: skip


def cloth(points: Array, pattern: str, a: Colour, b: Colour, generator: np.random.Generator) -> Array:
    """Albedo (N,3) of a pattern in two colours, slightly uneven as cloth is."""
    albedo = PATTERNS[pattern](points, a, b, generator)
    return np.clip(albedo * (1 + 0.07 * waves(points, 0.07, generator))[:, None], 0.01, 1)


def skin_albedo(points: Array, tone: Colour, generator: np.random.Generator) -> Array:
    """Albedo (N,3) of bare skin."""
    return np.clip(np.array(tone) * (1 + 0.04 * waves(points, 0.05, generator))[:, None], 0.01, 1)


def painted_face(points: Array, albedo: Array, eyes: Array, mouth: Array, tone: Colour, hair: Colour) -> Array:
    """Brows, lips, eye sockets and cheeks upon skin albedo (N,3).

    Args:
        eyes: (2,3) m centres of the eyes; mouth: (3,) m.
    """
    out = albedo.copy()
    front = points[:, 2] > eyes[:, 2].mean() - 0.03

    def blend(centre: Array, radii: Colour, colour: Array, strength: float) -> None:
        distance = np.linalg.norm((points - centre) / np.array(radii), axis=1)
        share = (strength * np.clip(2 * (1 - distance), 0, 1) * front)[:, None]
        out[:] = (1 - share) * out + share * colour

    skin, dark = np.array(tone), np.array(hair)
    for eye in eyes:
        blend(eye + [0, 0.006, 0.012], (0.03, 0.018, 0.04), 0.7 * skin, 0.6)
        blend(eye + [0, 0.024, 0.015], (0.042, 0.016, 0.05), 0.6 * dark + 0.25 * skin, 0.8)
        blend(eye + [0, -0.05, 0.0], (0.03, 0.025, 0.05), np.clip(skin * [1.08, 0.86, 0.84], 0, 1), 0.5)
    blend(mouth, (0.034, 0.014, 0.06), skin * [0.85, 0.48, 0.48], 0.9)
    return out
