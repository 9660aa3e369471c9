"""How far results of one float32 computation may lie apart that was done in another order, as a card does it.

The measure is the error of the CPU's own float32 against float64. Another order of the same sums errs by as much, by
other signs and, through other block sizes, by a few times as much: FACTOR. What is compared on a pretended card was
computed by the same kernels, and is held to the tight tolerance of each test.
"""

from __future__ import annotations

from torch import Tensor

FACTOR = 8.0
FLOOR = 2e-6  # of the largest value: ten units in the last place, where the CPU happened to be exact


def allowed(on_cpu: Tensor, exact: Tensor) -> float:
    """The largest error that a card may make: float32 and float64 results of the CPU -> the same unit."""
    error = float((on_cpu.double() - exact).abs().max())
    return FACTOR * error + FLOOR * float(exact.abs().max())


def apart(a: Tensor, b: Tensor) -> float:
    """The distance of two gradients or pictures, relative to the second's length."""
    a, b = a.detach().cpu().double(), b.detach().cpu().double()
    return float((a - b).norm() / b.norm().clamp_min(1e-30))
