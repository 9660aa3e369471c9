"""Counter-based random numbers: item i of stream s is a function of (i, s) alone, whatever the batch it is drawn in.

A sequential generator makes a number depend on all that was drawn before it. Scenes and backgrounds are drawn by id, on
any worker and in any order, so their numbers are hashes of the id (the finaliser of splitmix64: Steele, Lea and Flood
2014, "Fast splittable pseudorandom number generators").

Dimensions: N items, K numbers for each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from posegen.seeds import derive


def _signed(value: int) -> int:
    """The int64 with the bits of a uint64."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX1 = _signed(0xBF58476D1CE4E5B9)
_MIX2 = _signed(0x94D049BB133111EB)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 (torch's is arithmetic)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    return x ^ _shift(x, 31)


def hashed_bits(ids: Tensor, stream: int, count: int) -> Tensor:
    """ids (N,) int64 -> (N,K) int64 of 63 random bits each, the same on every device."""
    counter = torch.arange(count, device=ids.device, dtype=torch.int64)
    start = _mix(ids.to(torch.int64) * _GOLDEN + _signed(derive(stream, "counter") * 2 + 1))
    return _shift(_mix(start[:, None] + (counter + 1) * _GOLDEN), 1)


def hashed_uniform(ids: Tensor, stream: int, count: int) -> Tensor:
    """ids (N,) int64 -> (N,K) float32 uniform in [0, 1)."""
    return (_shift(hashed_bits(ids, stream, count), 39)).to(torch.float32) / (1 << 24)


def hashed_normal(ids: Tensor, stream: int, count: int) -> Tensor:
    """ids (N,) int64 -> (N,K) float32 standard normal (Box and Muller 1958)."""
    u = hashed_uniform(ids, stream, 2 * count)
    radius = (-2 * torch.log1p(-u[:, :count])).sqrt()
    return radius * torch.cos(2 * math.pi * u[:, count:])


def hashed_choice(ids: Tensor, stream: int, weights: Tensor) -> Tensor:
    """ids (N,) int64 -> (N,) int64, index into weights (C,) with probability in proportion to them."""
    edges = (weights / weights.sum()).cumsum(0).to(torch.float32).to(ids.device)
    chosen = torch.searchsorted(edges, hashed_uniform(ids, stream, 1)[:, 0].contiguous(), right=True)
    return chosen.clamp_max(len(weights) - 1)
