"""A-NeRF's rays: the bounding cylinder, samples along a ray, volume rendering.

After LemonATsu/A-NeRF core/utils/ray_utils.py, core/utils/skeleton_utils.py and core/networks/nerf.py.

World of A-NeRF: y points down, lengths in its own scale. Dimensions: R rays, S samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

EXTENSION = 0.25  # of the cylinder round the joints: 250 mm * ext_scale 0.001
TOP_RATIO, BOTTOM_RATIO = 1.6, 1.1  # of the extension above the head and below the feet
RGB_PADDING = 0.001
LAST_INTERVAL = 1e10
MIN_DEPTH = 1e-3


@dataclass(frozen=True)
class View:
    """A pinhole in A-NeRF's world. Its pixel (i,j) looks along (i,j) - centre, without half a pixel."""

    R: Tensor  # (3,3) world -> camera, OpenCV axes
    t: Tensor  # (3,)
    focal: Tensor  # () px
    centre: Tensor  # (2,) px
    height: int
    width: int


@dataclass(frozen=True)
class Cylinder:
    """An upright cylinder round one person."""

    centre_xz: Tensor  # (2,)
    radius: Tensor  # ()
    top: Tensor  # () y, smaller than bottom as y points down
    bottom: Tensor  # ()


def bounding_cylinder(joints: Tensor) -> Cylinder:
    """Round the root, as wide as the joint farthest from its axis plus the extension: joints (24,3)."""
    ground = joints[:, [0, 2]]
    radius = (ground - ground[0]).norm(dim=-1).max() + EXTENSION
    y = joints[:, 1]
    return Cylinder(ground[0], radius, y.min() - TOP_RATIO * EXTENSION, y.max() + BOTTOM_RATIO * EXTENSION)


@torch.no_grad()
def box_of_cylinder(cylinder: Cylinder, view: View) -> tuple[int, int, int, int]:
    """Pixels that may see the cylinder: left, top, right, bottom (the last two exclusive), as the original rounds.

    50 points on each rim are projected. Where a rim reaches behind the camera the whole picture may see it.
    """
    R, height, width = view.R, view.height, view.width
    angle = torch.linspace(0, 2 * math.pi, 50, dtype=R.dtype, device=R.device)
    x = cylinder.centre_xz[0] + angle.cos() * cylinder.radius
    z = cylinder.centre_xz[1] + angle.sin() * cylinder.radius
    rims = [torch.stack([x, y.expand_as(x), z], -1) for y in (cylinder.top, cylinder.bottom)]
    points = torch.cat(rims) @ R.T + view.t
    if bool((points[:, 2] < MIN_DEPTH).any()):
        return (0, 0, width, height) if bool((points[:, 2] > MIN_DEPTH).any()) else (0, 0, 0, 0)
    pixels = points[:, :2] / points[:, 2:] * view.focal
    low = pixels.amin(0).floor() + view.centre.trunc()
    high = pixels.amax(0).ceil() + view.centre.trunc()
    limit = torch.tensor([width - 1, height - 1], dtype=low.dtype, device=low.device)
    low, high = low.clamp_min(0).minimum(limit), high.clamp_min(0).minimum(limit)
    left, top, right, bottom = (int(value) for value in torch.cat([low, high]).tolist())
    return left, top, right, bottom


def rays_in_box(box: tuple[int, int, int, int], view: View) -> tuple[Tensor, Tensor]:
    """Origin (3,) and directions (R,3), row by row, one unit of depth long."""
    left, top, right, bottom = box
    R = view.R
    j, i = torch.meshgrid(
        torch.arange(top, bottom, device=R.device), torch.arange(left, right, device=R.device), indexing="ij"
    )
    xy = (torch.stack([i, j], -1).reshape(-1, 2).to(R.dtype) - view.centre) / view.focal
    directions = torch.cat([xy, torch.ones_like(xy[:, :1])], -1) @ R
    return -(view.t @ R), directions


def near_and_far(origin: Tensor, directions: Tensor, cylinder: Cylinder) -> tuple[Tensor, Tensor]:
    """Where each ray enters and leaves the cylinder's mantle, in lengths of the direction: (R,), (R,).

    A ray that misses it gets the mean of the others, as in the original (which takes the mean over a chunk of rays).
    """
    ground = directions[:, [0, 2]]
    length = ground.norm(dim=-1).clamp_min(1e-9)
    to_centre = cylinder.centre_xz - origin[[0, 2]]
    along = (ground @ to_centre) / length
    across = (to_centre[0] * ground[:, 1] - to_centre[1] * ground[:, 0]).abs() / length
    inside = cylinder.radius**2 - across**2
    hit = inside >= 0
    half = inside.clamp_min(0).sqrt()
    near = torch.where(half < along, (along - half) / length, torch.zeros_like(along))
    far = (along + half) / length
    if not bool(hit.all()):
        if bool(hit.any()):
            near, far = torch.where(hit, near, near[hit].mean()), torch.where(hit, far, far[hit].mean())
        else:
            near, far = torch.zeros_like(near), torch.ones_like(far)
    return near, far


def coarse_samples(near: Tensor, far: Tensor, count: int) -> Tensor:
    """Evenly from near to far, both included: (R,S)."""
    share = torch.linspace(0, 1, count, dtype=near.dtype, device=near.device)
    return near[:, None] * (1 - share) + far[:, None] * share


def importance_samples(z: Tensor, weights: Tensor, count: int, single_net: bool = False) -> Tensor:
    """Places where the weights are, by inverting their cumulative distribution at even steps (NeRF, section 5.2).

    Args:
        z, weights: (R,S) of the coarse samples.
        single_net: smooth the weights as the original does when one network serves both passes.

    Returns:
        (R,S+count), the coarse and the new samples in order.
    """
    edges = 0.5 * (z[:, 1:] + z[:, :-1])
    middle = weights[:, 1:-1]
    if single_net:
        middle = 0.5 * (torch.maximum(weights[:, :-2], middle) + torch.maximum(middle, weights[:, 2:])) + 0.01
    middle = middle + 1e-5
    cumulative = (middle / middle.sum(-1, keepdim=True)).cumsum(-1)
    cumulative = torch.cat([torch.zeros_like(cumulative[:, :1]), cumulative], -1)
    u = torch.linspace(0, 1, count, dtype=z.dtype, device=z.device).expand(len(z), count).contiguous()
    index = torch.searchsorted(cumulative, u, right=True)
    below, above = (index - 1).clamp_min(0), index.clamp_max(cumulative.shape[-1] - 1)
    low, high = cumulative.gather(-1, below), cumulative.gather(-1, above)
    step = torch.where(high - low < 1e-5, torch.ones_like(low), high - low)
    start, end = edges.gather(-1, below), edges.gather(-1, above)
    placed = start + (u - low) / step * (end - start)
    return torch.cat([z, placed], -1).sort(-1).values


def volume_weights(density: Tensor, z: Tensor, direction_length: Tensor) -> Tensor:
    """w_i = T_i (1 - exp(-sigma_i delta_i)), T_i = prod_{j<i} (1 - alpha_j + 1e-10); the last interval is endless.

    Args:
        density: (R,S) >= 0; z: (R,S) in lengths of the direction; direction_length: (R,).
    """
    interval = torch.cat([z[:, 1:] - z[:, :-1], torch.full_like(z[:, :1], LAST_INTERVAL)], -1)
    alpha = 1 - torch.exp(-density * interval * direction_length[:, None])
    passed = torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha + 1e-10], -1).cumprod(-1)[:, :-1]
    return alpha * passed


def composite(raw: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Premultiplied colour (R,3) and alpha (R,) of raw network outputs (R,S,4) under weights (R,S)."""
    colour = torch.sigmoid(raw[..., :3]) * (1 + 2 * RGB_PADDING) - RGB_PADDING
    return (weights[..., None] * colour).sum(1), weights.sum(1).clamp_max(1)
