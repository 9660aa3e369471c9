"""How a picture looks beyond its geometry: light, what stands in front of the person, blur, noise, exposure.

All of it is drawn from a seed, item by item, so that a row's look can be made again from its labels. It is applied in
the order in which a real picture gets it: light (by the renderer), background, occluders, optics, sensor.

Dimensions: B batch, N items.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from posegen.counter import hashed_normal, hashed_uniform
from posegen.errors import ConfigError
from posegen.scene import Light
from posegen.seeds import derive

Range = tuple[float, float]
OCCLUDER_CELLS = 4  # the texture of an occluder is a grid of this many cells a side, interpolated
MAX_BLUR_RADIUS_PX = 8


@dataclass(frozen=True)
class LookConfig:
    """The ranges that looks are drawn from. A range of one value switches the effect to that value."""

    blur_sigma_px: Range = (0.0, 0.0)  # optics, at 96 px; scaled with the image's side
    noise_sigma: Range = (0.0, 0.0)  # sensor, in units of the full range [0,1]
    gain: Range = (1.0, 1.0)  # exposure
    gamma: Range = (1.0, 1.0)
    tint: float = 0.0  # largest change of one channel against the others
    occluder_share: float = 0.0  # of the images that have one
    occluder_size: Range = (0.2, 0.45)  # side in units of the image's side

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            low, high = value if isinstance(value, (tuple, list)) else (value, value)
            if not 0 <= low <= high:
                raise ConfigError(f"look.{name} must be a range 0 <= low <= high", where=value)
        if self.occluder_share > 1:
            raise ConfigError("look.occluder_share is a share, at most 1", where=self.occluder_share)


CLEAN = LookConfig()
PHOTO = LookConfig((0.0, 0.7), (0.0, 0.03), (0.8, 1.15), (0.85, 1.2), 0.06)


def _spread(u: Tensor, limits: Range) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * u


def light_from_numbers(u: Tensor, ambient: Range = (0.35, 0.75), lowest_deg: float = 10.0) -> Light:
    """Three random numbers (N,3) in [0,1) -> lights uniform over the sky above `lowest_deg`, ambient + diffuse <= 1."""
    azimuth = 2 * math.pi * u[:, 0]
    y = _spread(u[:, 1], (math.sin(math.radians(lowest_deg)), 1.0))
    horizontal = (1 - y * y).clamp_min(0).sqrt()
    direction = torch.stack([horizontal * azimuth.sin(), y, horizontal * azimuth.cos()], -1)
    level = _spread(u[:, 2], ambient)
    return Light(direction, level, 1 - level)


def random_light(n: int, generator: torch.Generator, ambient: Range = (0.35, 0.75)) -> Light:
    """n lights from a seeded CPU generator."""
    return light_from_numbers(torch.rand(n, 3, generator=generator), ambient)


def hashed_light(ids: Tensor, stream: int, ambient: Range = (0.35, 0.75)) -> Light:
    """The light of each id (N,), the same in whatever batch it is drawn."""
    return light_from_numbers(hashed_uniform(ids, derive(stream, "light"), 3), ambient)


def gaussian_blur(images: Tensor, sigma_px: Tensor) -> Tensor:
    """Blurs each image (B,C,H,W) by its own sigma (B,) px; a sigma of 0 leaves it as it is. Differentiable."""
    radius = min(MAX_BLUR_RADIUS_PX, int(torch.ceil(3 * sigma_px.max()).item())) if len(images) else 0
    if radius == 0:
        return images
    b, c, h, w = images.shape
    offset = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offset / sigma_px[:, None].clamp_min(1e-3)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(c, 0)
    flat = images.reshape(1, b * c, h, w)
    flat = F.pad(flat, (radius, radius, radius, radius), mode="replicate")
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=b * c)
    return F.conv2d(flat, kernel[:, None, :, None], groups=b * c).reshape(b, c, h, w)


@dataclass(frozen=True)
class Look:
    """What was drawn for each image of a batch: its labels."""

    seeds: Tensor  # (B,) int64
    blur_sigma_px: Tensor  # (B,) at 96 px
    noise_sigma: Tensor  # (B,)
    gain: Tensor  # (B,3)
    gamma: Tensor  # (B,)
    occluder: Tensor  # (B,6) present, ellipse, centre u, v, half width, half height in units of the side


REFERENCE_SIDE_PX = 96


class Degrade:
    """Turns composited pictures into photographs: occluder, exposure, blur, noise; drawn by seed.

    Args:
        config: the ranges to draw from.
        pool: hashed into the seeds, so that pools never share an occluder or a noise pattern.
    """

    def __init__(self, config: LookConfig = CLEAN, pool: str = "train") -> None:
        self.config = config
        self.stream = derive(0, "look", pool)

    def draw(self, seeds: Tensor) -> Look:
        """seeds (B,) int64 -> the look of each image."""
        c = self.config
        u = hashed_uniform(seeds, self.stream, 14)
        gain = _spread(u[:, 2:3], c.gain) * (1 + c.tint * (2 * u[:, 3:6] - 1))
        present = (u[:, 6] < c.occluder_share).float()
        half = _spread(u[:, 10:12], c.occluder_size) / 2
        occluder = torch.cat([present[:, None], (u[:, 7:8] < 0.5).float(), 0.15 + 0.7 * u[:, 8:10], half], 1)
        return Look(
            seeds,
            _spread(u[:, 0], c.blur_sigma_px),
            _spread(u[:, 1], c.noise_sigma),
            gain,
            _spread(u[:, 12], c.gamma),
            occluder,
        )

    def occluder_alpha(self, look: Look, height: int, width: int) -> Tensor:
        """(B,1,H,W) in [0,1], soft over one pixel: rectangles and ellipses."""
        device = look.seeds.device
        v, u = torch.meshgrid(
            (torch.arange(height, device=device) + 0.5) / height,
            (torch.arange(width, device=device) + 0.5) / width,
            indexing="ij",
        )
        present, ellipse, cu, cv, hw, hh = (column[:, None, None] for column in look.occluder.unbind(1))
        x, y = (u - cu) / hw, (v - cv) / hh
        reach = torch.where(ellipse > 0, (x * x + y * y).sqrt(), torch.maximum(x.abs(), y.abs()))
        edge = ((1 - reach) * torch.minimum(hw, hh) * width + 0.5).clamp(0, 1)
        return (present * edge)[:, None]

    def _paint(self, seeds: Tensor, height: int, width: int) -> Tensor:
        """(B,3,H,W) smooth two-colour texture for occluders."""
        cells = OCCLUDER_CELLS
        u = hashed_uniform(seeds, derive(self.stream, "paint"), cells * cells + 6)
        pattern = u[:, 6:].reshape(-1, 1, cells, cells)
        pattern = F.interpolate(pattern, (height, width), mode="bilinear", align_corners=True)
        one, two = u[:, :3, None, None], u[:, 3:6, None, None]
        return one + (two - one) * (pattern > 0.5)

    def __call__(self, images: Tensor, seeds: Tensor, look: Look | None = None) -> Tensor:
        """images (B,3,H,W) in [0,1] -> the same shape in [0,1]. Differentiable in the images."""
        look = self.draw(seeds) if look is None else look
        height, width = images.shape[-2:]
        if self.config.occluder_share > 0:
            alpha = self.occluder_alpha(look, height, width)
            images = images * (1 - alpha) + self._paint(seeds, height, width) * alpha
        if self.config.gamma != (1.0, 1.0):
            images = images.clamp_min(1e-4) ** look.gamma[:, None, None, None]
        images = images * look.gain[..., None, None]
        images = gaussian_blur(images, look.blur_sigma_px * (width / REFERENCE_SIDE_PX))
        if self.config.noise_sigma[1] > 0:
            grain = hashed_normal(seeds, derive(self.stream, "noise"), 3 * height * width)
            images = images + look.noise_sigma[:, None, None, None] * grain.reshape_as(images)
        return images.clamp(0, 1)


def random_look(n: int, generator: torch.Generator, config: LookConfig = PHOTO, pool: str = "train") -> Look:
    """n looks from a seeded CPU generator."""
    seeds = torch.randint(0, 2**62, (n,), generator=generator)
    return Degrade(config, pool).draw(seeds)
