"""Who sees other colours reads the figures as well: simulated by Machado, Oliveira & Fernandes 2009, severity 1.

Distances are of Oklab (Ottosson 2020), in which 0.02 is about what one just sees between neighbouring patches.
"""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from posegen.arms.registry import BEFORE, method_of, names
from posegen.tracking.report.style import BETTER, WORSE, arm_look

METHOD = method_of(names())
# linear sRGB as it is seen -> linear sRGB that looks so to all
VISIONS = {
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
TO_CONES = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005]]  # fmt: skip
TO_OKLAB = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660]]  # fmt: skip


def seen(colour: str, vision: str) -> np.ndarray:
    """Oklab of a colour in the eyes of somebody."""
    encoded = np.array(to_rgb(colour))
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return TO_OKLAB @ np.cbrt(TO_CONES @ np.clip(VISIONS[vision] @ linear, 0, 1))


def distance(a: str, b: str, vision: str) -> float:
    return float(np.linalg.norm(seen(a, vision) - seen(b, vision)))


def test_the_simulation_knows_red_and_green() -> None:
    assert distance("#ff0000", "#00a000", "all") > 0.3
    brown, olive = "#a55a28", "#6e6e28"
    assert distance(brown, olive, "deuteranopia") < 0.4 * distance(brown, olive, "all")


@pytest.mark.parametrize("vision", VISIONS)
def test_better_and_worse_and_the_method_itself_stand_out(vision: str) -> None:
    assert distance(BETTER, WORSE, vision) > 0.15
    others = [arm_look(name) for name in (BEFORE, *names()) if name != METHOD]
    near = {look.label: distance(arm_look(METHOD).colour, look.colour, vision) for look in others}
    assert min(near.values()) > 0.08, near


def test_arms_that_some_take_for_one_colour_differ_by_their_marker() -> None:
    """Ten arms are more than there are colours for everybody: no marker is there twice."""
    markers = [arm_look(name).marker for name in (BEFORE, *names())]
    assert len(set(markers)) == len(markers)
