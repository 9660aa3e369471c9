"""One thread while an asset is made, so that its bits do not depend on how many the machine has.

Sums that a BLAS spreads over threads are added in another order for each number of threads: differences of 1e-8, which
one training turns into another table. What is left is the processor: its vector units choose the BLAS's kernels.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

# The limit holds for what is loaded when it is set, and scipy brings a BLAS of its own with its first linear algebra.
POOLS = ("numpy", "scipy.linalg", "scipy.sparse.linalg", "torch")


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs the block with one thread in every BLAS and OpenMP of this process, and gives the threads back after it."""
    for name in POOLS:
        importlib.import_module(name)
    with threadpool_limits(1):
        yield
