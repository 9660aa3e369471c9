"""Mining: from a larger random pool keep the hard rows, but not the very hardest."""

from __future__ import annotations

import numpy as np

from posegen.errors import DataError


def mine(errors: np.ndarray, keep: int, drop_top: float = 0.1) -> np.ndarray:
    """Indices of the `keep` hardest rows after the hardest share `drop_top` is left out, in ascending order.

    The hardest rows are often impossible ones (hidden, cut off) that teach nothing; see docs/explanation/method.md.

    Args:
        errors: (P,) any unit.
        keep: how many rows.
        drop_top: share of the pool in [0,1).
    """
    order = np.argsort(-errors, kind="stable")
    start = round(drop_top * len(errors))
    if start + keep > len(errors):
        raise DataError(
            f"a pool of {len(errors)} rows less its hardest {start} has no {keep} rows", where="dataset.mined_factor"
        )
    return np.sort(order[start : start + keep])
