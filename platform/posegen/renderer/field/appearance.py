"""What the eight channels of a voxel mean, once interpolated.

channel 0 raw density; 1-3 raw albedo; 4-6 raw normal in the volume's frame; 7 raw openness to ambient light.
Activations come after the interpolation, so that a surface can be sharper than a voxel (Sun et al. 2022, DVGO).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHANNELS = 8
DENSITY_SCALE = 10.0  # 1/m
NORMAL_FLOOR = 1e-4  # added to the squared length of a normal, so that a zero normal has a derivative
EMPTY = -5.0  # raw density of empty space: 0.07 per metre. A lower one would make the skin a cliff


def density(raw: Tensor) -> Tensor:
    """Raw channel (...) -> 1/m (...)."""
    return DENSITY_SCALE * F.softplus(raw)


def colour(features: Tensor, light: Tensor, shade: Tensor) -> Tensor:
    """Lit colour: albedo (ambient openness + diffuse max(0, n . l)).

    Args:
        features: (M,8); light: (M,3) unit, in the volume's frame; shade: (M,2) ambient and diffuse.

    Returns:
        (M,3)
    """
    albedo = torch.sigmoid(features[:, 1:4])
    normal = features[:, 4:7]
    cosine = (normal * light).sum(-1) * torch.rsqrt((normal * normal).sum(-1) + NORMAL_FLOOR)
    brightness = shade[:, 0] * torch.sigmoid(features[:, 7]) + shade[:, 1] * cosine.clamp_min(0)
    return albedo * brightness[:, None]
