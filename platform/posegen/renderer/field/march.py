"""Where the rays are sampled. Nothing here is differentiated, and nothing needs to be.

Samples lie on one lattice for all volumes: depth z = (k + phase) step, with integer k and a phase that depends on the
pixel only. A sample's place on its ray thus does not depend on pose or camera, so that the derivative of the picture
with z held fixed is the exact one (intervals that start where a ray enters a box would not have this property).
The phase differs among neighbouring pixels, which turns the lattice's banding into fine noise.

A sample is kept where the densest corner of its cell passes the occupancy threshold, which never drops a sample
denser than that, and until the transmittance, estimated from the thinnest corner, falls under its threshold.

Dimensions: B batch, K volumes, P (pixel, volume) pairs, M samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.renderer.composite import exclusive_sum
from posegen.renderer.field.affine import entries_first, inverse_3x3, product
from posegen.renderer.field.transforms import RayTransforms

# Ranks of a 4 x 4 ordered dither: any 2 x 2 block of pixels has well spread phases.
DITHER = ((0, 8, 2, 10), (12, 4, 14, 6), (3, 11, 1, 9), (15, 7, 13, 5))
MAX_STEPS = 4096  # of one ray in one volume
VOLUME_BITS = 8  # of a sample's sort key
LATTICE_BITS = 20
MOST_VOLUMES = 1 << VOLUME_BITS  # of one subject


@dataclass(frozen=True)
class Occupancy:
    """What is known of the cells of all volumes (S*K volumes of N^3 voxels; a cell is named by its lowest corner)."""

    cell: Tensor  # (S*K*N^3,) uint8, 1 where a corner is dense enough
    floor: Tensor  # (S*K*N^3,) 1/m, density of the thinnest corner
    low: Tensor  # (S*K,3) voxel coordinates of the box around the occupied cells; low > high where there is none
    high: Tensor  # (S*K,3)
    resolution: int  # N


@dataclass(frozen=True)
class Samples:
    """Packed samples, sorted by ray, then depth, then volume."""

    pair: Tensor  # (M,) int64, image * K + volume
    ray: Tensor  # (M,) int64, (image * H + row) * W + column
    depth: Tensor  # (M,) m


def pixel_phase(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """The lattice phase of each pixel (H,W), in (0,1)."""
    ranks = torch.tensor(DITHER, dtype=torch.float32, device=device)
    rows, columns = torch.arange(height, device=device) % 4, torch.arange(width, device=device) % 4
    return (ranks[rows[:, None], columns[None]] + 0.5) / 16


def pixel_rays(height: int, width: int, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """Pixel rays p (H*W,3), see `transforms`."""
    x = (torch.arange(width, dtype=dtype, device=device) + 0.5) / width - 0.5
    y = (torch.arange(height, dtype=dtype, device=device) + 0.5) / width - 0.5
    across, down = x.expand(height, width), y[:, None].expand(height, width)
    return torch.stack([across, down, torch.ones_like(across)], -1).view(-1, 3)


def ray_lengths(lens: Tensor, p: Tensor) -> Tensor:
    """Metres along each ray per metre of depth: lens (B,3), p (P,3) of all pixels -> (B,P)."""
    h, a, b = lens[:, None].unbind(-1)
    return torch.sqrt(1 + h * ((p[:, 0] - a) ** 2 + (p[:, 1] - b) ** 2))


@torch.no_grad()
def pixel_boxes(transforms: RayTransforms, occupancy: Occupancy, near_m: float) -> Tensor:
    """The pixels that can see each volume: (B,K,4) int32, first and last column, first and last row (inclusive)."""
    dtype = occupancy.low.dtype
    M, c = transforms.M.to(dtype), transforms.c.to(dtype)
    height, width = transforms.height, transforms.width
    low, high = (entries_first(side[transforms.volume], 1) for side in (occupancy.low, occupancy.high))  # (3,B,K)
    pick = torch.tensor([[i >> d & 1 for i in range(8)] for d in (2, 1, 0)], device=M.device, dtype=M.dtype)
    corners = low[:, None] + pick[..., None, None] * (high - low)[:, None] - entries_first(c, 1)[:, None]  # (3,8,B,K)
    points = product(inverse_3x3(entries_first(M, 2)), corners)  # depth times p
    depth = points[2]
    pixel = (points[:2] / depth.clamp_min(near_m) + 0.5) * width - 0.5
    slack = 1e-3
    limit = torch.tensor([width, height], device=M.device, dtype=M.dtype)[:, None, None]
    pixel = pixel.nan_to_num(nan=0.0, posinf=1e9, neginf=-1e9)
    first = (pixel.amin(1) - slack).ceil().clamp_min(0).minimum(limit)  # (2,B,K)
    last = (pixel.amax(1) + slack).floor().clamp_min(-1).minimum(limit - 1)
    crosses = depth.amin(0) < near_m  # the projection of the part in front is not bounded by corners
    first = torch.where(crosses, torch.zeros_like(first), first)
    last = torch.where(crosses, limit - 1, last)
    unseen = (depth.amax(0) < near_m) | (low > high).any(0)
    last = torch.where(unseen, torch.full_like(last, -1), last)
    return torch.stack([first[0], last[0], first[1], last[1]], -1).int()


@torch.no_grad()
def march(
    transforms: RayTransforms,
    occupancy: Occupancy,
    step_m: float,
    near_m: float,
    transmittance_threshold: float,
) -> Samples:
    """Finds the samples of all rays of a batch."""
    dtype = occupancy.low.dtype
    M, c = transforms.M.to(dtype), transforms.c.to(dtype)
    device, count, n = M.device, M.shape[1], occupancy.resolution
    height, width = transforms.height, transforms.width
    boxes = pixel_boxes(transforms, occupancy, near_m).view(-1, 4).long()

    # (pixel, volume) pairs
    wide = (boxes[:, 1] - boxes[:, 0] + 1).clamp_min(0)
    tall = (boxes[:, 3] - boxes[:, 2] + 1).clamp_min(0)
    pair, within = _expand(wide * tall)
    row_within = torch.div(within, wide[pair], rounding_mode="floor")
    row = boxes[pair, 2] + row_within
    column = boxes[pair, 0] + within - row_within * wide[pair]
    pixel = row * width + column
    p = pixel_rays(height, width, dtype, device)[pixel]
    slope = (M.view(-1, 3, 3)[pair] @ p[..., None])[..., 0]
    origin = c.view(-1, 3)[pair]
    volume = transforms.volume.reshape(-1)[pair]

    # slabs of the box around the occupied cells
    inverse = 1 / torch.where(slope.abs() < 1e-9, torch.full_like(slope, 1e-9), slope)
    a, b = (occupancy.low[volume] - origin) * inverse, (occupancy.high[volume] - origin) * inverse
    near = torch.minimum(a, b).amax(1).clamp_min(near_m)
    far = torch.maximum(a, b).amin(1)
    phase = pixel_phase(height, width, device).view(-1)[pixel]
    first = (near / step_m - phase).ceil()
    steps = ((far / step_m - phase).floor() - first + 1).nan_to_num(nan=0.0).clamp(0, MAX_STEPS).long()
    hit = (steps > 0).nonzero()[:, 0]
    pair, pixel, slope, origin = pair[hit], pixel[hit], slope[hit], origin[hit]
    volume, phase, first, steps = volume[hit], phase[hit], first[hit], steps[hit]

    # lattice points in occupied cells
    source, within = _expand(steps)
    k = first[source] + within
    depth = (k + phase[source]) * step_m
    g = torch.addcmul(origin[source], depth[:, None], slope[source])
    cell = g.long().clamp_(0, n - 2)
    cell_index = ((volume[source] * n + cell[:, 0]) * n + cell[:, 1]) * n + cell[:, 2]
    kept = occupancy.cell[cell_index].nonzero()[:, 0]
    source, depth, k, cell_index = source[kept], depth[kept], k[kept], cell_index[kept]
    ray = torch.div(pair, count, rounding_mode="floor")[source] * (height * width) + pixel[source]
    pair = pair[source]

    # ray, then depth, then volume
    lattice = k.long().clamp_max((1 << LATTICE_BITS) - 1)
    key = (((ray << LATTICE_BITS) | lattice) << VOLUME_BITS) | (pair % count)
    order = key.argsort()
    pair, ray, depth, cell_index = pair[order], ray[order], depth[order], cell_index[order]

    if transmittance_threshold > 0 and len(ray):
        length = ray_lengths(transforms.lens.to(dtype), pixel_rays(height, width, dtype, device)).view(-1)[ray]
        passed = exclusive_sum(occupancy.floor[cell_index] * length * step_m, ray)
        seen = (passed < -math.log(transmittance_threshold)).nonzero()[:, 0]
        pair, ray, depth = pair[seen], ray[seen], depth[seen]
    return Samples(pair, ray, depth)


def _expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Counts (n,) to the index of the owner and the running number within it, for each of sum(counts) items."""
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    start = counts.cumsum(0) - counts
    return owner, torch.arange(len(owner), device=counts.device) - start[owner]
