"""All that an atlas says of one estimator on one set of pictures, before and after fine-tuning; plain numbers.

Dimensions: N pictures, M of them on the map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.atlas.clusters import POOL, RESAMPLES, TARGET, Group, assign, describe, mended, part_errors, regressions
from posegen.atlas.config import AtlasConfig
from posegen.atlas.facts import KNOWN, LABELS
from posegen.atlas.features import features_of
from posegen.atlas.maps import binned, flat_places
from posegen.atlas.measured import Measured
from posegen.atlas.pose_facts import Numbers
from posegen.atlas.sample import Sample
from posegen.atlas.tree import Branch, Tree, fit_tree
from posegen.atlas.words import words_of
from posegen.benchmarks.measure.metrics import PCK_THRESHOLD_MM
from posegen.benchmarks.measure.result import TAILS, without_nan
from posegen.benchmarks.measure.statistics import Interval, bootstrap_tail, paired_bootstrap, tail_mean

FORMAT = 1
# Conditions that are shown, besides the viewpoint and all labels.
CONDITIONS = (
    "distance_m", "size", "hidden", "brightness", "contrast", "light_behind_deg", "trunk_tilt_deg", "pelvis_height",
    "knee_bend_most_deg",
)  # fmt: skip


@dataclass(frozen=True)
class Atlas:
    """N pictures in groups; the groups are numbered by their mean error before, the worst first."""

    sample: Sample
    before: Measured
    after: Measured | None
    groups: list[Group]
    of_group: NDArray[np.int64]  # (N,) number of each picture's group
    tree: Tree
    mapped: NDArray[np.int64]  # (M,) rows on the map of poses
    places: Numbers  # (M,2)

    @property
    def errors_mm(self) -> Numbers:
        return self.before.mpjpe_mm

    @property
    def after_mm(self) -> Numbers | None:
        return None if self.after is None else self.after.mpjpe_mm

    @property
    def sources(self) -> list[str]:
        """`pool`, and `target` where there is one."""
        return [name for name in (POOL, TARGET) if (self.sample.source == name).any()]

    def group_of(self, row: int) -> Group:
        return self.groups[int(self.of_group[row]) - 1]


def build_atlas(
    sample: Sample, before: Measured, after: Measured | None, settings: AtlasConfig, seed: int = 0
) -> Atlas:
    """Sorts the pictures into groups and finds what the error depends on."""
    features, words = features_of(sample), words_of(sample.facts)
    errors = before.mpjpe_mm
    groups = describe(
        assign(features.all(), settings.groups, seed), errors, before.joint_errors_mm, before.joint_names,
        sample.source, words, seed, None if after is None else after.mpjpe_mm,
    )  # fmt: skip
    of_group = np.zeros(len(sample), np.int64)
    for group in groups:
        of_group[group.rows] = group.number
    count = min(settings.mapped, len(sample))
    mapped = np.sort(np.random.default_rng(seed).choice(len(sample), count, replace=False))
    places = flat_places(features.pose[mapped], seed)
    return Atlas(sample, before, after, groups, of_group, fit_tree(sample.facts, errors, seed), mapped, places)


def tails(errors_mm: Numbers) -> dict[str, float]:
    """Mean, median, means of the worst 5 and 10 %, and the share of pictures over 150 mm."""
    return {
        "mean_mm": float(errors_mm.mean()),
        "median_mm": float(np.median(errors_mm)),
        **{name: tail_mean(errors_mm, share) for name, share in TAILS.items()},
        "over_150_mm": float((errors_mm > PCK_THRESHOLD_MM).mean()),
    }


def tails_by_source(atlas: Atlas) -> dict[str, dict[str, dict[str, float]]]:
    """source -> before, after -> figures."""
    table = {}
    for source in atlas.sources:
        own = atlas.sample.source == source
        table[source] = {"before": tails(atlas.errors_mm[own])}
        if atlas.after_mm is not None:
            table[source]["after"] = tails(atlas.after_mm[own])
    return table


def tail_changes(before_mm: Numbers, after_mm: Numbers, seed: int = 0) -> dict[str, Interval]:
    """How the figures of `tails` changed on the same pictures, with 95 % intervals; the median is left out."""
    first, second = ((values > PCK_THRESHOLD_MM).astype(np.float64) for values in (before_mm, after_mm))
    return {
        "mean_mm": paired_bootstrap(before_mm, after_mm, seed, resamples=RESAMPLES),
        **{
            name: bootstrap_tail(after_mm, share, seed, minus=before_mm, resamples=RESAMPLES)
            for name, share in TAILS.items()
        },
        "over_150_mm": paired_bootstrap(first, second, seed, resamples=RESAMPLES),
    }


def conditions_of(atlas: Atlas) -> list[str]:
    """The names of the conditions that vary in this set."""
    facts = atlas.sample.facts
    varying = [name for name in CONDITIONS if len(binned(facts, atlas.errors_mm, None, name)[3]) > 1]
    return varying + [name for name in LABELS if len(np.unique(facts.labels[name])) > 1]


def as_json(atlas: Atlas, about: Mapping[str, Any]) -> dict[str, Any]:
    """What atlas.json holds."""
    facts = atlas.sample.facts
    table: dict[str, Any] = {}
    for name in conditions_of(atlas):
        means, later, counts, labels = binned(facts, atlas.errors_mm, atlas.after_mm, name)
        table[name] = [
            {"bin": label, "pictures": int(count), "mean_mm": mean}
            | ({} if later is None else {"after_mm": float(later[i])})
            for i, (label, count, mean) in enumerate(zip(labels, counts, means.tolist(), strict=True))
        ]
    return without_nan(
        {
            "format": FORMAT,
            **about,
            "pictures": {source: int((atlas.sample.source == source).sum()) for source in atlas.sources},
            "figures": tails_by_source(atlas),
            "pa_mpjpe_mm": float(atlas.before.pa_mpjpe_mm.mean()),
            "parts_mm": part_errors(atlas.before.joint_errors_mm, atlas.before.joint_names),
            "joints_mm": dict(
                zip(atlas.before.joint_names, atlas.before.joint_errors_mm.mean(0).tolist(), strict=True)
            ),
            "groups": [group_json(atlas, group) for group in atlas.groups],
            "regressions": [group.number for group in regressions(atlas.groups)],
            "mended": [group.number for group in mended(atlas.groups)],
            "tree": {"explained": atlas.tree.explained, **branch_json(atlas.tree.top)},
            "conditions": table,
            "facts": {name: fact.title for name, fact in KNOWN.items()},
        }
    )


def group_json(atlas: Atlas, group: Group) -> dict[str, Any]:
    def interval(value: Any) -> dict[str, float] | None:
        return None if value is None else {"value": value.value, "low": value.low, "high": value.high}

    facts = atlas.sample.facts
    return {
        "number": group.number,
        "name": group.name,
        "pictures": len(group.rows),
        "mean_mm": interval(group.mean_mm),
        "worst_tenth_mm": group.worst_mm,
        "share_of_pictures": dict(group.common),
        "share_of_error": dict(group.carried),
        "parts_mm": dict(group.parts_mm),
        "words": {family: dict(found) for family, found in group.words.items() if found},
        "facts": {name: float(np.mean(facts[name][group.rows])) for name in KNOWN if name in facts.numbers},
        "after_mm": interval(group.after_mm),
        "change_mm": interval(group.change_mm),
        "rows": [
            {"source": str(atlas.sample.source[row]), "row_id": int(atlas.sample.row_id[row])} for row in group.rows
        ],
    }


def branch_json(branch: Branch) -> dict[str, Any]:
    return {
        "condition": branch.condition,
        "mean_mm": branch.mean_mm,
        "pictures": branch.count,
        "share_of_pictures": branch.share,
        "share_of_error": branch.carried,
        **({"fact": branch.fact, "threshold": branch.threshold} if branch.branches else {}),
        "branches": [branch_json(inner) for inner in branch.branches],
    }


def rows_table(atlas: Atlas) -> Any:
    """One row a picture for machines: where it is from, its group, errors and facts (pyarrow.Table)."""
    import pyarrow as pa

    columns: dict[str, Any] = {
        "source": pa.array(atlas.sample.source.tolist()),
        "row_id": pa.array(atlas.sample.row_id),
        "group": pa.array(atlas.of_group),
        "mpjpe_mm": pa.array(atlas.errors_mm),
        "pa_mpjpe_mm": pa.array(atlas.before.pa_mpjpe_mm),
    }
    if atlas.after_mm is not None:
        columns["after_mpjpe_mm"] = pa.array(atlas.after_mm)
    columns |= {name: pa.array(values) for name, values in atlas.sample.facts.numbers.items()}
    columns |= {name: pa.array(values.tolist()) for name, values in atlas.sample.facts.labels.items()}
    return pa.table(columns)
