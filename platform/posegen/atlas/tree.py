"""A regression tree of three levels: the conditions that matter most for the error, in words.

Dimensions: N pictures, F facts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posegen.atlas.facts import BEHIND, KNOWN, FactTable
from posegen.atlas.pose_facts import Numbers

LEVELS = 3
SMALLEST_SHARE = 0.02  # of the pictures in a leaf
FEWEST = 10
FOLDS = 5


@dataclass(frozen=True)
class Branch:
    """A node of the tree with the pictures that reach it."""

    condition: str  # in words, how one gets here from the node above; "all pictures" at the top
    mean_mm: float
    count: int
    share: float  # of all pictures
    carried: float  # share of the total error
    fact: str = ""  # what is asked here, "" in a leaf
    threshold: float = 0.0
    branches: tuple[Branch, ...] = ()  # at most the threshold, above it


@dataclass(frozen=True)
class Tree:
    """The tree, and how much of the error's variance it explains on pictures that it was not fitted to."""

    top: Branch
    explained: float  # R2 by cross-validation; NaN with too few pictures

    def leaves(self) -> list[tuple[tuple[str, ...], Branch]]:
        """Every leaf with the conditions on the way to it, the worst first.

        Where a fact is asked twice to the same side, only the later condition is told: it is the narrower one.
        """
        found: list[tuple[tuple[str, ...], Branch]] = []

        def walk(node: Branch, way: dict[tuple[str, int], str]) -> None:
            if not node.branches:
                found.append((tuple(way.values()), node))
            for side, branch in enumerate(node.branches):
                asked = (node.fact, side)
                walk(branch, {key: said for key, said in way.items() if key != asked} | {asked: branch.condition})

        walk(self.top, {})
        return sorted(found, key=lambda item: -item[1].mean_mm)


def table_of(facts: FactTable) -> tuple[list[str], Numbers]:
    """Names of what may be asked, and its values (N,F); a label is one column of 0 and 1 for each of its names."""
    names = [name for name, fact in KNOWN.items() if fact.in_tree and name in facts.numbers]
    columns = [facts[name] for name in names]
    for label, values in facts.labels.items():
        kinds = np.unique(values)
        for kind in kinds if len(kinds) > 1 else ():
            names.append(f"{label}={kind}")
            columns.append((values == kind).astype(np.float64))
    return names, np.stack(columns, 1)


def fit_tree(facts: FactTable, errors_mm: Numbers, seed: int = 0) -> Tree:
    """The tree of the errors (N,)."""
    from sklearn.model_selection import cross_val_score
    from sklearn.tree import DecisionTreeRegressor

    names, table = table_of(facts)
    smallest = max(FEWEST, round(SMALLEST_SHARE * len(table)))
    model = DecisionTreeRegressor(max_depth=LEVELS, min_samples_leaf=smallest, random_state=seed)
    explained = float("nan")
    if len(table) >= 2 * FOLDS * FEWEST:
        order = np.random.default_rng(seed).permutation(len(table))
        explained = float(cross_val_score(model, table[order], errors_mm[order], cv=FOLDS, scoring="r2").mean())
    grown = model.fit(table, errors_mm).tree_
    total = float(errors_mm.sum())

    def branch(node: int, condition: str, rows: NDArray[np.bool_]) -> Branch:
        own = errors_mm[rows]
        told = (condition, float(own.mean()), len(own), len(own) / len(table), float(own.sum() / total))
        if grown.children_left[node] < 0:
            return Branch(*told)
        column, threshold = int(grown.feature[node]), float(grown.threshold[node])
        below = rows & (table[:, column].astype(np.float32) <= threshold)  # sklearn compares in float32
        less, more = conditions(names[column], threshold)
        return Branch(
            *told, names[column], threshold,
            (branch(grown.children_left[node], less, below), branch(grown.children_right[node], more, rows & ~below)),
        )  # fmt: skip

    return Tree(branch(0, "all pictures", np.ones(len(table), bool)), explained)


def conditions(name: str, threshold: float) -> tuple[str, str]:
    """What is said of pictures at most at a threshold, and of those above it."""
    label, is_label, kind = name.partition("=")
    if is_label:
        thing = f"before {BEHIND.get(kind, kind)}" if label == "background" else f"person {kind}"
        return f"not {thing}", thing
    fact = KNOWN[name]
    said = fact.said(threshold)
    if name == "elevation_deg" and threshold < 0:
        said = fact.said(-threshold)
        return f"camera more than {said}° below the horizon", f"camera no lower than {said}° below the horizon"
    if name == "along_trunk_deg" and threshold < 0:
        said = fact.said(-threshold)
        return f"seen from more than {said}° towards the feet", f"seen from at most {said}° towards the feet"
    if name == "arm_height_most" and threshold < 0:
        said = fact.said(-threshold)
        return (f"both wrists more than {said} % of the arm's length below their shoulders",
                f"a wrist higher than {said} % of the arm's length below its shoulder")  # fmt: skip
    if name == "lean_forward_deg" and threshold < 0:
        said = fact.said(-threshold)
        return f"trunk leaning more than {said}° backwards", f"trunk leaning at most {said}° backwards"
    return fact.less.format(said), fact.more.format(said)
