"""Selection: of several rendered candidates for each row, those that are hard but not hopeless.

A share of an arm's rows are the hardest of its candidates, less the very hardest, which teach nothing (hidden,
cut off, or lifted wrongly); the other rows are taken as they come, so that nothing is forgotten. Hardness is ranked
over all candidates, or within each anchor, so that every person of a target is seen at his own hardest.

Dimensions: P candidates, n rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posegen.arms.config import SelectionConfig
from posegen.errors import ConfigError, DataError


@dataclass(frozen=True)
class Selection:
    """What was chosen.

    Attributes:
        ids: (n,) int64, ascending: the candidates that are trained on.
        hard: (n,) bool: which of them were chosen for their error.
        rendered: how many candidates there were.
    """

    ids: NDArray[np.int64]
    hard: NDArray[np.bool_]
    rendered: int

    def figures(self, errors: NDArray) -> dict[str, float]:
        """What a report says of it: `errors` (P,) of the candidates, in the unit that they come in."""
        return {
            "candidates_rendered": float(self.rendered),
            "rendered_beyond_rows": float(self.rendered - len(self.ids)),
            "chosen_hard": float(self.hard.sum()),
            "median_error_candidates": float(np.median(errors)),
            "median_error_rows": float(np.median(errors[self.ids])),
        }


def hardness(errors: NDArray, anchors: NDArray | None = None) -> NDArray[np.float64]:
    """The rank (P,) of each candidate in (0,1), 0 the hardest: over all, or among those of its own anchor.

    The k-th hardest of m has rank (k - 1/2) / m.

    Args:
        errors: (P,) any unit; anchors: (P,) int, which anchor each is drawn around.
    """
    order = np.argsort(-errors, kind="stable")
    ranks = np.empty(len(errors))
    if anchors is None:
        ranks[order] = (np.arange(len(errors)) + 0.5) / len(errors)
        return ranks
    order = order[np.argsort(anchors[order], kind="stable")]  # anchor by anchor, the hardest of each first
    _, first, counts = np.unique(anchors[order], return_index=True, return_counts=True)
    within = np.arange(len(errors)) - np.repeat(first, counts)
    ranks[order] = (within + 0.5) / np.repeat(counts, counts)
    return ranks


def select(errors: NDArray, rows: int, settings: SelectionConfig, anchors: NDArray | None = None) -> Selection:
    """Chooses `rows` of P candidates.

    Args:
        errors: (P,) of the estimator on each candidate, any unit.
        anchors: (P,) which anchor each is drawn around; needed with `per_anchor`.

    Raises:
        DataError: too few candidates, or errors that are no numbers.
    """
    errors = np.asarray(errors, np.float64)
    if not np.isfinite(errors).all():
        raise DataError(f"{int((~np.isfinite(errors)).sum())} candidates have no error to be ranked by")
    if settings.per_anchor and anchors is None:
        raise ConfigError(
            "candidates without anchors cannot be ranked within them", where="dataset.selection.per_anchor",
            next_command="dataset.selection.per_anchor=false, or a target",
        )  # fmt: skip
    hard_rows = round(settings.hard_share * rows)
    ranks = hardness(errors, anchors if settings.per_anchor else None)
    # Of equal ranks (as in anchors with one candidate each) the larger error counts as harder.
    order = np.lexsort((-errors, ranks))
    order = order[ranks[order] >= settings.drop_top]
    if len(order) < hard_rows or len(errors) < rows:
        raise DataError(
            f"{len(errors)} candidates less their hardest {len(errors) - len(order)} are too few for {rows} rows, "
            f"{hard_rows} of them hard", where="dataset.selection",
            next_command="raise dataset.selection.factor or lower dataset.selection.drop_top",
        )  # fmt: skip
    hard = np.zeros(len(errors), bool)
    hard[order[:hard_rows]] = True
    others = np.flatnonzero(~hard)[: rows - hard_rows]
    ids = np.sort(np.concatenate([np.flatnonzero(hard), others]))
    return Selection(ids.astype(np.int64), hard[ids], len(errors))
