"""The stand-ins' target parts as what a user has: a folder of pictures with a file of keypoints and boxes.

A run with `target=embedded` reads this as it reads anybody's target. Pictures are person crops; for an estimator that
wants more around a person they are wider than the person's box, as photographs are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from posegen.assets.cache import replacing
from posegen.benchmarks.embedded.target_parts import KeypointNoise, build_target
from posegen.body.joint_sets import LIMBS12
from posegen.scenes.sampler import EMBEDDED_SIZE_PX
from posegen.target.readers.own import write_target
from posegen.target.record import Target

Tell = Callable[[int, int], None]  # pictures drawn and pictures written, of how many
FAST = 2  # of PNG's levels: half of the time for a ninth more room


def write_target_folder(
    folder: Path,
    stand_ins: Sequence[str],
    images: int,
    split: Any,
    size_px: int = EMBEDDED_SIZE_PX,
    noise_px: float = 1.0,
    margin: float = 1.0,
    tell: Tell = lambda done, total: None,
) -> tuple[Path, Path]:
    """Writes pictures and keypoints; returns the folder of pictures and the file of keypoints.

    Args:
        stand_ins: whose target parts.
        images: of each.
        split: by name or as a mapping.
        size_px: side of a person's box in the pictures.
        noise_px: of the keypoints, in pixels of a box of EMBEDDED_SIZE_PX.
        margin: side of a picture in boxes.
    """
    pictures = folder / "pictures"
    names: list[str] = []
    keypoints, boxes = [], []
    whole = round(size_px * margin)
    noise = KeypointNoise(noise_px * size_px / EMBEDDED_SIZE_PX)
    total = 2 * images * len(stand_ins)
    for stand_in in stand_ins:
        before = 2 * len(names)

        def drawn(done: int, _: int, before: int = before) -> None:
            tell(before + done, total)

        part = build_target(
            stand_in, images, size_px=whole, keypoints=LIMBS12.name, noise=noise, split=split, margin=margin,
            progress=drawn,
        )  # fmt: skip
        (pictures / stand_in).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(part.images):
            name = f"{stand_in}/{number:05d}.png"
            with replacing(pictures / name) as partial, partial.open("wb") as file:
                Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "PNG", compress_level=FAST)
            names.append(name)
            tell(before + len(part) + number + 1, total)
        keypoints.append(part.keypoints.numpy())
        side = whole / margin
        boxes.append(np.tile([(whole - side) / 2, (whole - side) / 2, side, side], (len(part), 1)))
    target = Target(LIMBS12.name, np.concatenate(keypoints), tuple(names), boxes=np.concatenate(boxes))
    return pictures, write_target(target, folder / "keypoints.npz")
