"""The target's people as an estimator sees them: crops of their pictures with keypoints in crop units, by number.

Pictures are read when they are asked for, by a few threads; as many crops as fit into a given memory are kept, so one
hundred thousand pictures take no more than a thousand do. A picture that has become unreadable is black and has no
keypoints: it teaches nothing, and is counted.

Dimensions: N people, B of them, K joints, S side of a crop.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from posegen.benchmarks.readers.crop import crop as square_of
from posegen.body.joint_sets import joint_set
from posegen.errors import DataError
from posegen.estimator.crop import CropConvention
from posegen.estimator.spin_crop import BOX_UNIT_PX
from posegen.estimator.weak_labels import WeakRows
from posegen.target.people import People
from posegen.target.readers.opening import open_picture
from posegen.target.record import Target

logger = logging.getLogger(__name__)
WIDE = 2.0  # a picture that is to be turned is first read this much wider, see FrameBenchmark.cropped_for


def check_pictures(target: Target) -> None:
    """Raises DataError for a target without pictures."""
    if not target.pictures:
        raise DataError(
            "the target is known by keypoints alone, and its pictures are asked for", where="target.images",
            next_command="target.images=FOLDER",
        )  # fmt: skip


class TargetCrops:
    """Crops of people with pictures.

    Args:
        people: of one target.
        crop: how the estimator wants its person cropped.
        keep_mb: memory for crops that are kept.
        workers: threads that read pictures.
    """

    def __init__(self, people: People, crop: CropConvention, keep_mb: float = 256, workers: int = 4) -> None:
        check_pictures(people.target)
        self.people, self.crop = people, crop
        self.names = joint_set(people.target.joint_set)
        self.workers = workers
        self.unreadable: set[int] = set()
        self._room = int(keep_mb * 2**20 / (3 * crop.size_px**2))
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._turn, self._side = self._turns()

    def __len__(self) -> int:
        return len(self.people)

    def _turns(self) -> tuple[Tensor, Tensor]:
        """The turn (N,2,2) of picture points and the crop's side (N,) in boxes."""
        points = torch.from_numpy(self.people.target.keypoints.astype(np.float32)).clone()
        points[points[..., 2] <= 0] = torch.nan
        return self.crop.turn_and_side(points, self.names)

    def rows(self, numbers: Sequence[int]) -> WeakRows:
        """The people of these numbers, in this order."""
        missing = [number for number in dict.fromkeys(numbers) if number not in self._kept]
        with ThreadPoolExecutor(self.workers, thread_name_prefix="target") as pool:
            read = dict(zip(missing, pool.map(self._read, missing), strict=True))
        for number, pixels in read.items():
            if len(self._kept) < self._room:
                self._kept[number] = pixels
        images = np.stack([read[number] if number in read else self._kept[number] for number in numbers])
        index = torch.tensor(list(numbers))
        keypoints = self.keypoints(index)
        keypoints[torch.tensor([number in self.unreadable for number in numbers])] = 0.0
        return WeakRows(torch.from_numpy(images), keypoints, self.names.name)

    def keypoints(self, index: Tensor) -> Tensor:
        """(B,K,3) in crop units, those that the crop does not show and those without a place with confidence 0.

        A point p of the picture is at turn (p - centre) * 2 / (box * side) in the crop.
        """
        points = torch.from_numpy(self.people.target.keypoints[index.numpy()].astype(np.float32))
        centre = torch.from_numpy(self.people.centre[index.numpy()]).float()
        half = torch.from_numpy(self.people.side[index.numpy()]).float() * self._side[index] / 2
        placed = (points[..., :2] - centre[:, None]) @ self._turn[index].mT / half[:, None, None]
        seen = (points[..., 2] > 0) & torch.isfinite(placed).all(-1) & (placed.abs() <= 1.0).all(-1)
        confidence = torch.where(seen, points[..., 2], 0.0)
        return torch.cat([torch.where(seen[..., None], placed, 0.0), confidence[..., None]], 2)

    def turned_back(self, joints_m: Tensor, index: Tensor) -> Tensor:
        """Joints (B,J,3) that an estimator saw in the crops, as the untilted picture's camera sees them."""
        return joints_m @ self._roll(index)  # R^T j

    def turned(self, joints_m: Tensor, index: Tensor) -> Tensor:
        """Joints (B,J,3) that the untilted picture's camera sees, as the crops' cameras see them."""
        return joints_m @ self._roll(index).mT

    def _roll(self, index: Tensor) -> Tensor:
        roll = torch.eye(3).repeat(len(index), 1, 1)
        roll[:, :2, :2] = self._turn[index]
        return roll

    def _read(self, number: int) -> NDArray[np.uint8]:
        """The crop (3,S,S); black where the picture cannot be read."""
        size, wide = self.crop.size_px, WIDE if self.crop.upright else 1.0
        scale = float(self.people.side[number]) * self.crop.margin * wide / BOX_UNIT_PX
        try:
            picture = open_picture(self.people.target.pictures[number], self.people.target.turned)
            pixels = square_of(
                picture, self.people.centre[number].tolist(), scale, round(size * wide), self.crop.stretch,
                self.crop.outside,
            )  # fmt: skip
        except DataError as error:
            self.unreadable.add(number)
            logger.warning("%s teaches nothing: %s", self.people.target.names[number], error.what)
            return np.zeros((3, size, size), np.uint8)
        if self.crop.upright:
            theta = torch.zeros(1, 2, 3)
            theta[:, :, :2] = self._side[number] / (WIDE * self.crop.margin) * self._turn[number].T
            grid = F.affine_grid(theta, [1, 3, size, size], align_corners=False)
            found = torch.from_numpy(pixels)[None]
            pixels = F.grid_sample(found, grid, mode="bilinear", padding_mode="border", align_corners=False)[0].numpy()
        return (pixels * 255).round().astype(np.uint8)
