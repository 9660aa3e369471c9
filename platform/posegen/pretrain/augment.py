"""Augmentation of pictures and their labels on the device that they are on, batch by batch.

A picture is turned, zoomed, shifted and mirrored by one resampling, and all labels follow: what is seen turned about
the picture's middle is a person turned about the camera's axis, and a mirrored picture is one of the mirrored person.
Then comes what labels do not follow: something before the person, colour, blur and noise.

Dimensions: B batch, S image side. Crop units: -1..1 over the picture, u right, v down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from posegen.body.joint_sets import SMPL24
from posegen.estimator.augment import blur
from posegen.estimator.labels import Labels

GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Augment:
    """Half-widths of uniform distributions, unless said otherwise.

    Weak as it stands: hmr_lite's trunk knows people behind things, in other colours and blurred already, and a picture
    is seen a few times. Crops are turned upright by their labels; detectors do it by what they see, so a little turn
    is left.
    """

    roll_deg: float = 4.0
    zoom: float = 0.08  # of the logarithm
    shift: float = 0.03  # of the picture's place, in sides
    mirrored: float = 0.5  # share of the pictures
    covered: float = 0.0  # share of the pictures with something before the person
    cover_size: tuple[float, float] = (0.1, 0.45)  # its sides, in sides of the picture
    brightness: float = 0.1  # of the logarithm of the gain
    contrast: float = 0.1  # likewise
    colour: float = 0.05  # of each channel's gain
    saturation: float = 0.1
    grey: float = 0.0  # share of the pictures without colour
    blur_px: float = 0.5  # largest standard deviation; half of the pictures are blurred
    noise: float = 0.02  # largest standard deviation

    @torch.no_grad()
    def __call__(self, images: Tensor, labels: Labels, generator: torch.Generator) -> tuple[Tensor, Labels]:
        """images (B,3,S,S) in [0,1] and their labels -> the same of other pictures.

        Args:
            generator: on the device of the images.
        """
        view = self.draw(len(images), generator)
        return self._looks(view.pictures(images), generator), view.labels(labels)

    def draw(self, batch: int, generator: torch.Generator) -> ViewChange:
        """Random changes of view."""
        u = torch.rand(batch, 5, generator=generator, device=generator.device)
        spread = 2 * u - 1
        return ViewChange(
            spread[:, 0] * math.radians(self.roll_deg),
            torch.exp(spread[:, 1] * self.zoom),
            2 * self.shift * spread[:, 2:4],
            u[:, 4] < self.mirrored,
        )

    def _looks(self, images: Tensor, generator: torch.Generator) -> Tensor:
        batch, device = len(images), images.device

        def uniform(*shape: int) -> Tensor:
            return torch.rand(batch, *shape, 1, 1, generator=generator, device=device)

        images = _covered(images, uniform(6), self.covered, self.cover_size)
        gain = torch.exp((2 * uniform(1) - 1) * self.brightness) * (1 + (2 * uniform(3) - 1) * self.colour)
        images = images * gain
        mean = images.mean((1, 2, 3), keepdim=True)
        images = mean + (images - mean) * torch.exp((2 * uniform(1) - 1) * self.contrast)
        grey = (images * images.new_tensor(GREY).view(3, 1, 1)).sum(1, keepdim=True)
        kept = 1 + (2 * uniform(1) - 1) * self.saturation
        kept = torch.where(uniform(1) < self.grey, 0.0, kept)
        images = grey + (images - grey) * kept
        sigma = torch.rand(batch, 2, generator=generator, device=device)
        images = blur(images, self.blur_px * sigma[:, 0] * (sigma[:, 1] < 0.5))
        noise = torch.randn(images.shape, generator=generator, device=device)
        return (images + self.noise * uniform(1) * noise).clamp(0, 1)


@dataclass(frozen=True)
class ViewChange:
    """Each picture mirrored or not, then turned, zoomed and shifted: a point at p goes to zoom * R F p + shift."""

    roll_rad: Tensor  # (B,) positive turns u towards v: clockwise as seen
    zoom: Tensor  # (B,)
    shift: Tensor  # (B,2) crop units
    mirrored: Tensor  # (B,) bool

    def _turn(self) -> tuple[Tensor, Tensor]:
        """The rotation R (B,2,2) of picture points, and the sign (B,) of u that F gives."""
        cos, sin = self.roll_rad.cos(), self.roll_rad.sin()
        turn = torch.stack([cos, -sin, sin, cos], -1).view(-1, 2, 2)
        return turn, 1 - 2 * self.mirrored.to(turn.dtype)

    def pictures(self, images: Tensor) -> Tensor:
        """What lies outside repeats the border."""
        turn, sign = self._turn()
        # from a place in the new picture to that in the old one: F R^T (p' - shift) / zoom
        back = turn.mT / self.zoom[:, None, None]
        back = torch.stack([back[:, 0] * sign[:, None], back[:, 1]], 1)
        start = -(back @ self.shift[..., None])
        grid = F.affine_grid(torch.cat([back, start], -1), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def labels(self, labels: Labels) -> Labels:
        """Zoom and shift move the projected joints only."""
        turn, sign = self._turn()
        space = torch.eye(3, device=turn.device).repeat(len(turn), 1, 1)
        space[:, :2, :2] = turn
        flip = torch.ones(len(turn), 3, device=turn.device)
        flip[:, 0] = sign
        order = torch.tensor(SMPL24.mirror, device=turn.device)
        there = self.mirrored[:, None, None]
        joints = torch.where(there, labels.joints[:, order], labels.joints) * flip[:, None]
        placed = torch.where(there, labels.joints_crop[:, order], labels.joints_crop) * flip[:, None, :2]
        rotations = torch.where(there[..., None], labels.rotations[:, order], labels.rotations)
        rotations = flip[:, None, :, None] * rotations * flip[:, None, None, :]  # F R F
        rotations = torch.cat([space[:, None] @ rotations[:, :1], rotations[:, 1:]], 1)
        return replace(
            labels,
            rotations=rotations,
            joints=joints @ space.mT,
            joints_crop=self.zoom[:, None, None] * (placed @ turn.mT) + self.shift[:, None],
        )


def _covered(images: Tensor, u: Tensor, share: float, size: tuple[float, float]) -> Tensor:
    """Rectangles and ellipses that show the next picture of the batch, or one colour of it, before a share of them.

    Args:
        u: (B,6,1,1) random numbers.
    """
    side = images.shape[-1]
    place = (torch.arange(side, device=images.device, dtype=images.dtype) + 0.5) / side
    present, left, top, wide, tall, kind = u.unbind(1)  # (B,1,1)
    half_u, half_v = ((size[0] + (size[1] - size[0]) * one) / 2 for one in (wide, tall))
    x, y = (place - left) / half_u, (place[:, None] - top) / half_v
    reach = torch.where(
        kind < 0.5, (x * x + y * y).sqrt(), torch.maximum(x.abs().expand_as(x * y), y.abs().expand_as(x * y))
    )
    there = ((reach < 1) & (present < share))[:, None]
    other = images.roll(1, 0)
    plain = other[:, :, :1, :1].expand_as(other)
    shown = torch.where((kind.remainder(0.5) < 0.25)[:, None], plain, other)
    return torch.where(there, shown, images)
