"""2-D keypoints where a target is pictures alone: BlazePose's own image landmarks.

As in its own pipeline (Bazarevsky et al. 2020) the person is shown with a margin of 25 % and turned upright, hips
below shoulders: a first look at the box tells where the person is, a second look at the turned crop tells the joints.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from posegen.body.joint_sets import BLAZEPOSE33
from posegen.errors import DataError
from posegen.target.readers.opening import open_picture

logger = logging.getLogger(__name__)

MARGIN = 1.25
BATCH = 16
AROUND = 0.9  # of the first look's side, from its middle: the second look may lie a little aside
KEPT_PX = 448  # resolution of that side at which pictures are kept
PRESENT = 0.5


@dataclass(frozen=True)
class Look:
    """Square, possibly turned crops of pictures."""

    centre: Tensor  # (B,2) px
    side: Tensor  # (B,) px
    angle: Tensor  # (B,) rad by which the crop's up is turned clockwise from the picture's


def sampled(picture: Tensor, look: Look, size_px: int) -> Tensor:
    """Crops (1,3,S,S) of one picture (3,H,W); outside of it its edge goes on."""
    height, width = picture.shape[-2:]
    step = (torch.arange(size_px, dtype=torch.float32) + 0.5) / size_px - 0.5
    v, u = torch.meshgrid(step, step, indexing="ij")
    cos, sin = look.angle.cos()[:, None, None], look.angle.sin()[:, None, None]
    side = look.side[:, None, None]
    x = look.centre[:, 0, None, None] + side * (cos * u - sin * v)
    y = look.centre[:, 1, None, None] + side * (sin * u + cos * v)
    grid = torch.stack([2 * x / width - 1, 2 * y / height - 1], -1)
    return F.grid_sample(picture[None], grid, mode="bilinear", padding_mode="border", align_corners=False)


def in_picture(points: Tensor, look: Look) -> Tensor:
    """Points (B,K,2) in sides of the crop from its middle -> pixels of the picture."""
    cos, sin = look.angle.cos()[:, None], look.angle.sin()[:, None]
    u, v = points.unbind(-1)
    turned = torch.stack([cos * u - sin * v, sin * u + cos * v], -1)
    return look.centre[:, None] + look.side[:, None, None] * turned


def around(points: Tensor) -> Look:
    """The upright look at a person whose landmarks (B,33,2) px are known."""

    def middle(joint: str) -> Tensor:
        return (points[:, BLAZEPOSE33.index(f"left_{joint}")] + points[:, BLAZEPOSE33.index(f"right_{joint}")]) / 2

    up = middle("shoulder") - middle("hip")
    angle = torch.atan2(up[:, 0], -up[:, 1])
    low, high = points.amin(1), points.amax(1)
    return Look((low + high) / 2, MARGIN * (high - low).amax(1), angle)


@dataclass(frozen=True)
class Region:
    """What is kept of a picture while its person is looked at: a batch is small however large pictures are."""

    pixels: Tensor  # (3,h,w) in [0,1]
    corner: Tensor  # (2,) px of the picture
    shrunk: int  # pixels of the picture along a side of each of these

    def crop(self, look: Look, index: int, size_px: int) -> Tensor:
        """Look number `index`, (1,3,S,S)."""
        one = slice(index, index + 1)
        centre = (look.centre[one] - self.corner) / self.shrunk
        return sampled(self.pixels, Look(centre, look.side[one] / self.shrunk, look.angle[one]), size_px)


def region_of(path: str, look: Look, index: int, opened: Callable[[str], NDArray]) -> Region:
    """The surroundings of look number `index`, smoothed to about twice the network's resolution.

    A picture that cannot be read is told in the log and is black: nobody is seen in it.
    """
    try:
        picture = opened(path)
    except DataError as error:
        logger.warning("left out: %s", error)
        return Region(torch.zeros(3, 8, 8), torch.zeros(2), 1)
    height, width = picture.shape[:2]
    (u, v), side = look.centre[index].tolist(), float(look.side[index])
    left, right = (int(min(max(u + s * AROUND * side, 0), width)) for s in (-1, 1))
    top, bottom = (int(min(max(v + s * AROUND * side, 0), height)) for s in (-1, 1))
    if right - left < 2 or bottom - top < 2:
        logger.warning("left out: a box outside of its picture: %s", path)
        return Region(torch.zeros(3, 8, 8), torch.zeros(2), 1)
    pixels = torch.from_numpy(picture[top:bottom, left:right].copy()).permute(2, 0, 1).float() / 255
    shrunk = max(1, math.floor(side / KEPT_PX))
    if shrunk > 1:
        pixels = F.avg_pool2d(pixels[None], shrunk, ceil_mode=True, count_include_pad=False)[0]
    return Region(pixels, torch.tensor([left, top], dtype=torch.float32), shrunk)


class Detector:
    """Finds the 33 landmarks of people in their boxes.

    Args:
        model: the tflite file; None takes the model that comes with the assets.
    """

    def __init__(self, model: Path | None = None) -> None:
        from posegen.assets import asset_path
        from posegen.estimator.blazepose import BlazePose
        from posegen.estimator.tflite_graph import read_tflite

        graph = read_tflite(model or asset_path("blazepose_full"))
        self.network = BlazePose(graph, ("landmarks", "flag")).eval()

    @torch.no_grad()
    def landmarks(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Crops (B,3,256,256) -> points (B,33,2) in sides from the middle, their confidence, the person's (B,)."""
        out = self.network.raw(crops.contiguous(memory_format=torch.channels_last))
        values = out["landmarks"].reshape(len(crops), -1, 5)[:, : len(BLAZEPOSE33)]
        confidence = values[..., 3].sigmoid() * values[..., 4].sigmoid()
        return values[..., :2] / crops.shape[-1] - 0.5, confidence, out["flag"].reshape(-1)

    @torch.no_grad()
    def __call__(
        self, pictures: list[str], boxes: NDArray[np.float64], opened: Callable[[str], NDArray] = open_picture
    ) -> NDArray[np.float32]:
        """Keypoints (N,33,3) px of the pictures; confidence 0 everywhere where no person is seen.

        Args:
            pictures: paths; boxes: (N,4) x, y, width, height px.
        """
        result = np.zeros((len(pictures), len(BLAZEPOSE33), 3), np.float32)
        size = self.network.image_size
        for start in range(0, len(pictures), BATCH):
            rows = range(start, min(start + BATCH, len(pictures)))
            box = torch.from_numpy(np.asarray(boxes[start : start + BATCH], np.float32))
            if not torch.isfinite(box).all() or (box[:, 2:] <= 0).any():
                raise DataError("a box has no size", where=pictures[start])
            look = Look(box[:, :2] + box[:, 2:] / 2, MARGIN * box[:, 2:].amax(1), torch.zeros(len(box)))
            regions = [region_of(pictures[row], look, i, opened) for i, row in enumerate(rows)]
            for _ in range(2):
                crops = torch.cat([region.crop(look, i, size) for i, region in enumerate(regions)])
                points, confidence, present = self.landmarks(crops)
                points = in_picture(points, look)
                look = around(points)
                look = Look(look.centre, look.side.clamp_min(8.0), look.angle)
            confidence = confidence * (present > PRESENT)[:, None]
            result[start : start + len(regions)] = torch.cat([points, confidence[..., None]], 2).numpy()
        return result
