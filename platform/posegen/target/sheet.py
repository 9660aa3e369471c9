"""A sheet of what was lifted: keypoints and the best hypotheses over each picture, and the best ones from the side."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from posegen.body.model import BodyModel
from posegen.body.rotations import aa_to_matrix
from posegen.errors import DataError
from posegen.target.lift.sequence import camera_joints
from posegen.target.lifted import Lifted
from posegen.target.readers.opening import open_picture
from posegen.tracking.report.pictures import (
    PREDICTION,
    TRUTH,
    Colour,
    Pixels,
    Skeleton,
    Tile,
    beside,
    contact_sheet,
    overlay,
)

SIZE_PX = 128
MARGIN = 1.35
HYPOTHESIS_COLOURS: tuple[Colour, ...] = (PREDICTION, (0, 158, 115), (204, 121, 167))
METRES = 2.2  # side of the view from the side


def sheet(lifted: Lifted, body: BodyModel, people: int = 24, columns: int = 4) -> Pixels:
    """A picture (H,W,3) of up to `people` people, evenly spread over the target."""
    rows = np.unique(np.linspace(0, len(lifted) - 1, min(people, len(lifted))).round().astype(int)).tolist()
    title = f"{len(lifted)} people: keypoints (blue), hypotheses (orange, green, pink), and from their left"
    return contact_sheet([tile(lifted, row, body) for row in rows], columns, title)


def tile(lifted: Lifted, row: int, body: BodyModel) -> Tile:
    """One person: the picture with keypoints and hypotheses, and the hypotheses from the side."""
    one = lifted.hypotheses[row]
    centre, side = lifted.box_centre[row], float(lifted.box_side[row]) * MARGIN
    scale = SIZE_PX / side
    keypoints = (lifted.keypoints[row, :, :2] - centre) * scale + SIZE_PX / 2
    keypoints = np.where(lifted.keypoints[row, :, 2:] > 0, keypoints, np.nan)
    joints = camera_joints(one, body)[0]
    shown = range(min(len(HYPOTHESIS_COLOURS), joints.shape[0]))
    seen = []
    for h in shown:
        cam = joints[h]
        gain = one.focal[0, h] / (cam[:, 2:] + one.distance_m[0, h])
        points = gain * (cam[:, :2] + one.shift_m[0, h]) * SIZE_PX / MARGIN + SIZE_PX / 2
        seen.append(Skeleton(points.numpy(), HYPOTHESIS_COLOURS[h]))
    front = [*reversed(seen), Skeleton(keypoints, TRUTH, lifted.joint_set)]
    turned = from_the_left(one.pose[0], one.betas[0], body)
    profile = [
        Skeleton(turned[h].numpy() / METRES * SIZE_PX + SIZE_PX / 2, HYPOTHESIS_COLOURS[h]) for h in reversed(shown)
    ]
    blank = np.full((SIZE_PX, SIZE_PX, 3), 235, np.uint8)
    picture = _background(lifted, row, centre, side)
    caption = (
        f"{lifted.names[row][-28:]}\n{math.degrees(float(one.elevation_rad[0, 0])):.0f}° up, "
        f"{float(one.distance_m[0, 0]):.1f} m, {100 * float(one.weight[0, 0]):.0f} % sure"
    )
    return Tile(beside([overlay(picture, front, 2), overlay(blank, profile, 2)]), caption)


def from_the_left(pose: torch.Tensor, betas: torch.Tensor, body: BodyModel) -> torch.Tensor:
    """World joints (H,24,2) m as seen by a level camera on the world's +x side: right is -z, down is -y."""
    joints = body.joints(aa_to_matrix(pose), betas)
    joints = joints - joints[:, :1]
    return torch.stack([-joints[..., 2], -joints[..., 1]], -1)


def _background(lifted: Lifted, row: int, centre: NDArray, side: float) -> Pixels:
    """The person's crop, or plain grey where there is no picture (or it is gone since)."""
    blank = np.full((SIZE_PX, SIZE_PX, 3), 210, np.uint8)
    if not lifted.pictures:
        return blank
    from PIL import Image

    try:
        image = Image.fromarray(open_picture(lifted.pictures[row], lifted.turned))
    except DataError:
        return blank
    left, top = centre - side / 2
    return np.asarray(
        image.transform((SIZE_PX, SIZE_PX), Image.Transform.EXTENT, (left, top, left + side, top + side),
                        Image.Resampling.BILINEAR)
    )  # fmt: skip
