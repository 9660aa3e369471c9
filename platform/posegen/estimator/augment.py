"""Image augmentation for training on few renders: brightness, colour, blur, noise, crop jitter. Seeded, batched.

Dimensions: B batch, S image side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class AugmentConfig:
    """Half-widths of uniform distributions, unless said otherwise.

    Attributes:
        brightness: relative gain of the whole image, and offset at half this size.
        colour: relative gain of each channel.
        blur_px: largest standard deviation of a Gaussian blur; half the images are blurred.
        noise: largest standard deviation of white noise.
        scale: relative zoom of the crop.
        shift: of the crop's centre, in units of its side.
    """

    brightness: float = 0.3
    colour: float = 0.1
    blur_px: float = 1.2
    noise: float = 0.04
    scale: float = 0.1
    shift: float = 0.05


def _uniform(shape: tuple[int, ...], half_width: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(*shape, generator=generator) * 2 - 1) * half_width


def crop_jitter(images: Tensor, zoom: Tensor, shift: Tensor) -> Tensor:
    """Zooms and shifts each image about its middle; what lies outside repeats the border.

    Args:
        images: (B,3,S,S).
        zoom: (B,); 1.1 shows a window 10 % smaller: the person appears larger.
        shift: (B,2) of the window's centre, u right and v down, in units of the side.

    A point at p in crop units (-1..1) moves to (p - 2 shift) * zoom.
    """
    theta = torch.zeros(len(images), 2, 3, dtype=images.dtype, device=images.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / zoom
    theta[:, :, 2] = 2 * shift
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def blur(images: Tensor, sigma_px: Tensor, radius: int = 3) -> Tensor:
    """Gaussian blur of each image with its own standard deviation (B,) px; 0 leaves it as it is."""
    batch, channels, height, width = images.shape
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma_px.clamp_min(1e-3)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(-1, keepdim=True)).repeat_interleave(channels, 0)
    x = F.pad(images, (radius,) * 4, mode="reflect").reshape(1, batch * channels, height + 2 * radius, -1)
    x = F.conv2d(x, kernel[:, None, :, None], groups=batch * channels)
    x = F.conv2d(x, kernel[:, None, None, :], groups=batch * channels)
    return x.reshape(batch, channels, height, width)


def augment(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Augments images (B,3,S,S) in [0,1].

    Returns:
        images (B,3,S,S) in [0,1], and the crop's zoom (B,) and shift (B,2), which 2D labels must follow (see
        crop_jitter).
    """
    batch, device = len(images), images.device
    zoom = (1 + _uniform((batch,), config.scale, generator)).to(device)
    shift = _uniform((batch, 2), config.shift, generator).to(device)
    x = crop_jitter(images, zoom, shift)
    sigma = torch.rand(batch, generator=generator) * config.blur_px
    sigma = sigma * (torch.rand(batch, generator=generator) < 0.5)
    x = blur(x, sigma.to(device)) if config.blur_px > 0 else x
    gain = (1 + _uniform((batch, 1, 1, 1), config.brightness, generator)) * (
        1 + _uniform((batch, 3, 1, 1), config.colour, generator)
    )
    offset = _uniform((batch, 1, 1, 1), config.brightness / 2, generator)
    x = x * gain.to(device) + offset.to(device)
    strength = torch.rand(batch, 1, 1, 1, generator=generator) * config.noise
    x = x + (torch.randn(x.shape, generator=generator) * strength).to(device)
    return x.clamp(0, 1), zoom, shift
