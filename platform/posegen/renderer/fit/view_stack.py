"""Gathers pictures read from files, brought to the size of a fit, and the cameras that saw them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from posegen.errors import DataError
from posegen.renderer.fit.views import FitViews
from posegen.scene import Camera, Light, Scene

LARGEST = 1e6  # of a number that tells of a view


def spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` rows, evenly spread over all of them."""
    return torch.linspace(0, count - 1, min(count, most)).round().long().tolist()


def check_sizes(arrays: Mapping[str, NDArray], where: object) -> None:
    """DataError for numbers that no view has: lengths, angles and pixels are computed with in 32 bits."""
    for name, array in arrays.items():
        if array.dtype.kind in "iuf" and array.size and not np.abs(array.astype(np.float64)).max() <= LARGEST:
            raise DataError(f"{name} holds values above {LARGEST:g}, or that are not finite", where=where)


class ViewStack:
    """Pictures of one size, one after the other, reduced at once so that no more than one is held in full.

    Args:
        size_px: the longer side they are brought to, by area averaging.
        where: the file that tells of them, for errors.
    """

    def __init__(self, size_px: int, where: object = None) -> None:
        self.size_px, self.where = size_px, where
        self._stored: tuple[int, int] | None = None
        self._pictures: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._pictures)

    @property
    def stored(self) -> tuple[int, int]:
        """Height and width of the pictures as they are stored, px."""
        if self._stored is None:
            raise DataError("there are no pictures", where=self.where)
        return self._stored

    def add(self, image: Tensor, mask: Tensor, where: object) -> None:
        """A picture (3,h,w) and the person's mask (1,h,w), both in [0,1]; `where` names them in errors."""
        if mask.shape[1:] != image.shape[1:]:
            raise DataError(f"mask and image differ in size: {tuple(mask.shape[1:])}, {tuple(image.shape[1:])}",
                            where=where)  # fmt: skip
        height, width = image.shape[1:]
        self._stored = self._stored or (height, width)
        if (height, width) != self._stored:
            raise DataError(f"the pictures differ in size: {(height, width)}, {self._stored}", where=where)
        scale = self.size_px / max(height, width)
        to = (max(1, round(height * scale)), max(1, round(width * scale)))
        self._pictures.append(F.interpolate(torch.cat([image * mask, mask])[None], to, mode="area")[0])

    def views(
        self,
        pose: Tensor,
        betas: Tensor,
        transl: Tensor,
        camera: tuple[Tensor, Tensor, Tensor, Tensor | None],
        light: Light | None = None,
    ) -> FitViews:
        """The views of V pictures.

        Args:
            pose: (V,24,3) rad; betas: (V,10); transl: (V,3) m.
            camera: R (V,3,3) and t (V,3) m, world to camera; focal (V,) and centre (V,2), px of the pictures as they
                are stored, None for the middle.
            light: None for even light: what is seen is then the colour itself.
        """
        R, t, focal, centre = camera
        pictures = torch.stack(self._pictures)
        if not bool((pictures[:, 3] > 0.5).any()):
            raise DataError("the masks show nobody: there is no person in any picture", where=self.where)
        depth_m = (torch.einsum("vij,vj->vi", R, transl) + t)[:, 2]
        if not bool((depth_m > 0).all()):
            raise DataError(
                f"the person of picture {int(depth_m.argmin())} is behind its camera ({depth_m.min():.3g} m)",
                where=self.where,
            )
        if not bool((focal > 0).all()):
            raise DataError(f"the focal length of picture {int(focal.argmin())} is not positive", where=self.where)
        count, _, height, width = pictures.shape
        stored_height, stored_width = self.stored
        ratio = torch.tensor([width / stored_width, height / stored_height])
        if centre is None:
            centre = torch.tensor([stored_width / 2, stored_height / 2]).expand(count, 2)
        if light is None:
            up = torch.tensor([0.0, 1.0, 0.0]).expand(count, 3).clone()
            light = Light(up, torch.ones(count), torch.zeros(count))
        scene = Scene(
            pose, betas, transl, Camera(R, t, focal * ratio[0], centre * ratio, height, width),
            torch.zeros(count, dtype=torch.int64), light, torch.full((count,), -1),
        )  # fmt: skip
        return FitViews(scene, pictures[:, :3], pictures[:, 3:])
