"""Who wears what: the embedded subjects. Looks of training, validation and test subjects differ in every piece."""

from __future__ import annotations

from dataclasses import dataclass

from posegen.assets.making.garments import Garment
from posegen.assets.making.hair import Hair
from posegen.assets.making.textures import Colour


@dataclass(frozen=True)
class Look:
    """Skin tone, hair and clothes of a subject; the seed varies noise and folds."""

    name: str
    skin: Colour
    hair: Hair
    garments: tuple[Garment, ...]
    seed: int


BLACK, WHITE, GREY = (0.06, 0.06, 0.07), (0.92, 0.92, 0.9), (0.45, 0.46, 0.48)
NAVY, DENIM, SKY = (0.08, 0.12, 0.3), (0.2, 0.3, 0.5), (0.45, 0.65, 0.88)
RED, WINE, ORANGE, YELLOW = (0.75, 0.12, 0.12), (0.38, 0.07, 0.14), (0.9, 0.45, 0.1), (0.93, 0.8, 0.22)
GREEN, OLIVE, MINT = (0.1, 0.45, 0.22), (0.32, 0.34, 0.16), (0.6, 0.85, 0.72)
PURPLE, PINK, SAND, BROWN = (0.42, 0.2, 0.55), (0.9, 0.55, 0.65), (0.76, 0.66, 0.5), (0.33, 0.21, 0.13)

# whom the embedded estimator saw when it was trained
SOURCE_LOOKS = (
    Look(
        "amber", (0.86, 0.66, 0.54), Hair((0.24, 0.14, 0.07), 0.016),
        (
            Garment("trousers", "solid", (DENIM, NAVY), 1.0, thickness_m=0.008, flare_m=0.008),
            Garment("top", "stripes", (ORANGE, WHITE), 0.32, 0.75, 0.014, 0.008),
            Garment("shoes", "solid", (WHITE, GREY), 0.0, thickness_m=0.007),
        ),
        11,
    ),
    Look(
        "birch", (0.45, 0.29, 0.2), Hair((0.05, 0.04, 0.04), 0.045, lumps=0.1),
        (
            Garment("trousers", "solid", (SAND, BROWN), 0.55, thickness_m=0.016, flare_m=0.014),
            Garment("top", "badge", (GREEN, YELLOW), 0.95, 0.7, 0.017, 0.004),
            Garment("shoes", "solid", (BROWN, BLACK), 0.12, thickness_m=0.009),
        ),
        12,
    ),
    Look(
        "cobalt", (0.95, 0.78, 0.68), Hair((0.72, 0.52, 0.25), 0.014, length_m=0.17),
        (
            Garment("trousers", "solid", (NAVY, NAVY), 0.2, thickness_m=-0.004),
            Garment("skirt", "checks", (NAVY, SKY), 0.42, thickness_m=0.014),
            Garment("top", "solid", (SKY, WHITE), 0.62, 0.2, 0.017, 0.004, neck_m=0.125),
            Garment("shoes", "solid", (WINE, BLACK), 0.0, thickness_m=0.005),
        ),
        13,
    ),
    Look(
        "dune", (0.7, 0.48, 0.35), Hair((0.1, 0.07, 0.06), 0.01, tail=True),
        (
            Garment("trousers", "upright", (GREY, BLACK), 1.0, thickness_m=0.005),
            Garment("top", "two_tone", (PURPLE, YELLOW), 0.5, 0.35, 0.009, 0.004, neck_m=0.12),
            Garment("shoes", "solid", (YELLOW, WHITE), 0.0, thickness_m=0.007),
        ),
        14,
    ),
)  # fmt: skip

# whom it meets in generated pictures
TRAIN_LOOKS = (
    *SOURCE_LOOKS,
    Look(
        "ivory", (0.38, 0.25, 0.18), Hair(BLACK, 0.0),
        (
            Garment("trousers", "solid", (BLACK, GREY), 0.42, thickness_m=0.013, flare_m=0.012),
            Garment("top", "solid", (WHITE, GREY), 0.28, 0.6, 0.013, 0.006),
            Garment("shoes", "solid", (RED, WHITE), 0.0, thickness_m=0.007),
        ),
        15,
    ),
    Look(
        "jade", (0.92, 0.74, 0.63), Hair((0.14, 0.09, 0.06), 0.016, length_m=0.25),
        (
            Garment("trousers", "solid", (GREEN, GREEN), 0.2, thickness_m=-0.004),
            Garment("skirt", "mottled", (GREEN, MINT), 0.7, thickness_m=0.014),
            Garment("top", "solid", (OLIVE, GREEN), 1.0, 0.2, 0.015, 0.004, neck_m=0.115),
            Garment("shoes", "solid", (SAND, BROWN), 0.0, thickness_m=0.006),
        ),
        16,
    ),
    Look(
        "khaki", (0.78, 0.58, 0.45), Hair((0.62, 0.6, 0.58), 0.007, receding_m=0.025),
        (
            Garment("trousers", "checks", (BROWN, SAND), 1.0, thickness_m=0.012, flare_m=0.006),
            Garment("top", "patches", (OLIVE, SAND), 1.0, 0.9, 0.022, 0.008, neck_m=0.1),
            Garment("shoes", "solid", (BLACK, GREY), 0.3, thickness_m=0.011),
        ),
        17,
    ),
    Look(
        "lilac", (0.62, 0.42, 0.31), Hair((0.32, 0.13, 0.07), 0.013, tail=True),
        (
            Garment("trousers", "solid", (WHITE, SKY), 0.75, thickness_m=0.004),
            Garment("top", "mottled", (PURPLE, PINK), 0.1, 0.9, 0.009, 0.012, neck_m=0.13),
            Garment("shoes", "solid", (NAVY, WHITE), 0.0, thickness_m=0.007),
        ),
        18,
    ),
)  # fmt: skip

VALIDATION_LOOKS = (
    Look(
        "moss", (0.72, 0.53, 0.41), Hair((0.36, 0.23, 0.11), 0.022),
        (
            Garment("trousers", "solid", (GREEN, OLIVE), 0.6, thickness_m=0.013),
            Garment("top", "stripes", (NAVY, WHITE), 0.8, 0.6, 0.013, 0.004),
            Garment("shoes", "solid", (GREY, WHITE), 0.0, thickness_m=0.008),
        ),
        31,
    ),
    Look(
        "nutmeg", (0.5, 0.33, 0.24), Hair((0.05, 0.04, 0.03), 0.026, length_m=0.1),
        (
            Garment("trousers", "upright", (BROWN, SAND), 1.0, thickness_m=0.01, flare_m=0.014),
            Garment("top", "badge", (YELLOW, RED), 0.4, 0.45, 0.012, 0.005, neck_m=0.12),
            Garment("shoes", "solid", (SKY, WHITE), 0.0, thickness_m=0.006),
        ),
        32,
    ),
)  # fmt: skip

TEST_LOOKS = (
    Look(
        "ember", (0.58, 0.38, 0.27), Hair((0.03, 0.03, 0.03), 0.007),
        (
            Garment("trousers", "solid", (OLIVE, BROWN), 1.0, thickness_m=0.014, flare_m=0.016),
            Garment("top", "checks", (RED, BLACK), 1.0, 0.85, 0.018, 0.008),
            Garment("shoes", "solid", (BLACK, SAND), 0.25, thickness_m=0.012),
        ),
        21,
    ),
    Look(
        "fern", (0.9, 0.72, 0.6), Hair((0.45, 0.16, 0.06), 0.02, length_m=0.3),
        (
            Garment("trousers", "mottled", (PINK, WINE), 0.98, thickness_m=0.003),
            Garment("top", "solid", (MINT, WHITE), 0.0, 0.45, 0.006, 0.006, neck_m=0.13),
            Garment("shoes", "solid", (PINK, WHITE), 0.0, thickness_m=0.006),
        ),
        22,
    ),
    Look(
        "grape", (0.33, 0.21, 0.15), Hair((0.55, 0.55, 0.55), 0.006, receding_m=0.02),
        (
            Garment("trousers", "solid", (NAVY, BLACK), 1.0, thickness_m=0.011, flare_m=0.006),
            Garment("top", "upright", (WHITE, SKY), 1.0, 0.15, 0.012, 0.003, neck_m=0.095),
            Garment("shoes", "solid", (BROWN, BLACK), 0.0, thickness_m=0.008),
        ),
        23,
    ),
    Look(
        "heron", (0.8, 0.6, 0.46), Hair((0.08, 0.06, 0.05), 0.016, length_m=0.06),
        (
            Garment("trousers", "solid", (RED, RED), 0.2, thickness_m=-0.004),
            Garment("skirt", "patches", (RED, ORANGE), 0.85, thickness_m=0.014),
            Garment("top", "patches", (RED, ORANGE), 0.25, 0.3, 0.016, 0.004, neck_m=0.125),
            Garment("shoes", "solid", (GREEN, WHITE), 0.0, thickness_m=0.006),
        ),
        24,
    ),
)  # fmt: skip
