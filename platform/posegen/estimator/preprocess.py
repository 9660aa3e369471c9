"""From square person crops in [0,1] to what a network was trained on: resize and normalise, differentiably."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from posegen.errors import DataError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def check_images(images: Tensor) -> None:
    """Raises DataError unless images are (B,3,S,S) floating point, as scene.Estimator promises."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise DataError(f"images must be (B,3,S,S), got {tuple(images.shape)}", where="estimator input")
    if images.shape[2] != images.shape[3]:
        raise DataError(
            f"images must be square person crops, got {images.shape[2]}x{images.shape[3]} px",
            where="estimator input",
            next_command="crop to the person first (posegen.body.cameras.crop_to_person, or the benchmark's reader)",
        )
    if not images.is_floating_point():
        raise DataError(f"images must be floats in [0,1], got {images.dtype}", where="estimator input")


def to_float(images: Tensor) -> Tensor:
    """uint8 images to [0,1]."""
    return images.float() / 255


def resize(images: Tensor, size_px: int) -> Tensor:
    """(B,3,S,S) -> (B,3,size,size), bilinear at pixel centres; smoothed first when it shrinks. Identity at size."""
    if images.shape[-1] == size_px:
        return images
    shrinks = images.shape[-1] > size_px
    return F.interpolate(images, (size_px, size_px), mode="bilinear", align_corners=False, antialias=shrinks)


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(x - mean) / std for each of the three channels: (B,3,H,W) -> (B,3,H,W)."""
    shift = torch.tensor(mean, dtype=images.dtype, device=images.device)[:, None, None]
    scale = torch.tensor(std, dtype=images.dtype, device=images.device)[:, None, None]
    return (images - shift) / scale
