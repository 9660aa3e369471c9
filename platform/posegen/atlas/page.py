"""The atlas as one HTML file that holds everything, opens anywhere and asks nothing of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posegen.atlas import generated as real
from posegen.atlas import maps
from posegen.atlas.analysis import Atlas, conditions_of, tail_changes, tails_by_source
from posegen.atlas.clusters import POOL, TARGET, Group, mended, regressions, shown_rows, worst
from posegen.atlas.config import AtlasConfig
from posegen.atlas.generated import ArmLooks
from posegen.atlas.sample import Sample, all_pictures, pictures_of
from posegen.atlas.tree import Branch
from posegen.atlas.view3d import chosen_rows, scene_data, script_json
from posegen.benchmarks.measure.statistics import Interval
from posegen.files.atomic import write_text
from posegen.tracking.report.cells import MARKS
from posegen.tracking.report.page import PagePicture, page_picture, page_plot
from posegen.tracking.report.page import environment as report_environment
from posegen.tracking.report.pictures import PREDICTION, TRUTH, Pixels, Skeleton, overlay, project
from posegen.tracking.report.style import arm_look

if TYPE_CHECKING:
    from jinja2 import Environment

SHOWN_PX = 224  # pictures are enlarged to about this side
MOST_CHANGED = 6  # groups in the tables of what got worse and better
STRANGEST = 7
STRANGE_MM = 5.0  # nearer to a real pose than this nothing is strange
BROKEN = 0.5  # share of pictures over 150 mm from which on the estimator is called far off as a whole


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The report's templates with those beside this module."""
    from jinja2 import FileSystemLoader

    base = report_environment()
    folders = [Path(__file__).parent / "templates", *base.loader.searchpath]  # type: ignore[union-attr]
    return base.overlay(loader=FileSystemLoader(folders))


def write_page(
    atlas: Atlas,
    about: Mapping[str, Any],
    settings: AtlasConfig,
    folders: Mapping[str, Path],
    file: Path,
    arms: Sequence[ArmLooks] = (),
    references: Mapping[str, Mapping[str, Any]] | None = None,
    arm_folders: Mapping[str, Path] | None = None,
) -> Path:
    """Writes the page.

    Args:
        about: what is told of how it was made, see posegen.atlas.command.
        folders: source -> shards; arm_folders: arm -> shards.
    """
    shown = worst(atlas.groups, settings.shown)
    changed = [*regressions(atlas.groups)[:MOST_CHANGED], *mended(atlas.groups)[:MOST_CHANGED]]
    rows = {group.number: shown_rows(group.rows, atlas.errors_mm, settings.pictures) for group in [*shown, *changed]}
    turned = chosen_rows(atlas, [rows[group.number] for group in shown], settings.turned)
    pictures = all_pictures(atlas.sample, [row for chosen in rows.values() for row in chosen] + turned, folders)
    values = {
        "about": about,
        "finding": finding(atlas, about),
        "second": second_finding(atlas),
        "has_target": TARGET in atlas.sources,
        "after_label": about["after_label"] if atlas.after is not None else None,
        "tails": tail_rows(atlas),
        "worse": [_change(g) for g in regressions(atlas.groups)[:MOST_CHANGED]],
        "better": [_change(g) for g in mended(atlas.groups)[:MOST_CHANGED]],
        "cards": [_card(atlas, group, rows[group.number], pictures) for group in shown],
        "table": [_table_row(group) for group in atlas.groups],
        "plots": _plots(atlas, shown),
        "tree": [{"conditions": way, "leaf": _leaf(leaf)} for way, leaf in atlas.tree.leaves()],
        "explained": atlas.tree.explained,
        "turned": script_json(scene_data(atlas, turned, {row: pictures[row] for row in turned})),
        "truth_colour": _css(TRUTH),
        "prediction_colour": _css(PREDICTION),
        **_generated(arms, references or {}, arm_folders or {}),
    }
    write_text(file, environment().get_template("atlas.html").render(**values))
    return file


def finding(atlas: Atlas, about: Mapping[str, Any]) -> str:
    """The first sentence: how large the error is, and where it is worst."""
    own = atlas.sample.source == POOL
    group = worst(atlas.groups, 1)[0]
    return (
        f"{about['estimator']} errs by {atlas.errors_mm[own].mean():.0f} mm on average. It is worst with people "
        f"{group.name}: {group.mean_mm.value:.0f} mm, {_percent(group.common[POOL])} of the pictures and "
        f"{_percent(group.carried[POOL])} of the total error."
    )


def second_finding(atlas: Atlas) -> str:
    """Where most of the error is, and what sets the hard pictures apart; of the target, if there is one."""
    source = TARGET if TARGET in atlas.sources else POOL
    whose = "your target's" if source == TARGET else "the total"
    most = max(atlas.groups, key=lambda group: group.carried[source])
    ways, leaf = atlas.tree.leaves()[0]
    condition = "; ".join(ways)
    over = tails_by_source(atlas)[source]["before"]["over_150_mm"]
    broken = (
        f"{_percent(over)} of the pictures are over 150 mm: it is far off nearly everywhere, not in some groups only. "
    )
    return (broken if over > BROKEN else "") + (
        f"Most of {whose} error, {_percent(most.carried[source])}, is with people {most.name} "
        f"({_percent(most.common[source])} of the pictures). The conditions that tell most: {condition} "
        f"({leaf.mean_mm:.0f} mm, {_percent(leaf.share)} of the pictures)."
    )


def tail_rows(atlas: Atlas) -> list[dict[str, Any]]:
    """A row for each figure and source: before, after."""
    named = {
        "mean_mm": "mean", "median_mm": "median", "worst_10_mm": "mean of the worst 10 %",
        "worst_5_mm": "mean of the worst 5 %", "over_150_mm": "pictures over 150 mm",
    }  # fmt: skip
    table = []
    for source, figures in tails_by_source(atlas).items():
        own = atlas.sample.source == source
        changes = {} if atlas.after_mm is None else tail_changes(atlas.errors_mm[own], atlas.after_mm[own])
        for key, name in named.items():
            cells = [figures[when][key] for when in ("before", "after") if when in figures]
            said = [_percent(v) if key == "over_150_mm" else f"{v:.1f} mm" for v in cells]
            scale = 100 if key == "over_150_mm" else 1
            table.append({"source": source, "name": name, "cells": said, **_interval(changes.get(key), scale)})
    return table


def _interval(change: Interval | None, scale: float) -> dict[str, str]:
    """A change as it is shown: better or worse only where its interval excludes 0."""
    if change is None:
        return {"change": "", "range": "", "verdict": "unclear", "mark": ""}
    verdict = "unclear" if not change.excludes_zero else "better" if change.value < 0 else "worse"
    low, high = _signed(scale * change.low), _signed(scale * change.high)
    return {"change": _signed(scale * change.value), "range": f"[{low}, {high}]", "verdict": verdict,
            "mark": MARKS[verdict]}  # fmt: skip


def overlaid(atlas: Atlas, row: int, picture: Pixels, which: str = "before") -> Pixels:
    """A picture with its ground truth and what the estimator said."""
    measured = atlas.before if which == "before" else atlas.after
    assert measured is not None
    sample = atlas.sample
    said = project(measured.predicted_cam_m[row], float(sample.focal_px[row]), sample.centre_px[row])
    return overlay(picture, [Skeleton(sample.joints_px[row], TRUTH), Skeleton(said, PREDICTION)], _scale(picture))


def _scale(picture: Pixels) -> int:
    return max(1, round(SHOWN_PX / max(picture.shape[:2])))


def _card(atlas: Atlas, group: Group, rows: Sequence[int], pictures: Mapping[int, Pixels]) -> dict[str, Any]:
    tiles = []
    for row in rows:
        error = atlas.errors_mm[row]
        alt = f"{group.name}: ground truth and prediction, error {error:.0f} mm"
        tile: dict[str, Any] = {
            "picture": page_picture(overlaid(atlas, row, pictures[row]), alt), "after": None,
            "caption": f"{error:.0f} mm",
        }  # fmt: skip
        if atlas.after_mm is not None:
            later = atlas.after_mm[row]
            tile["after"] = page_picture(
                overlaid(atlas, row, pictures[row], "after"), f"the same after fine-tuning, error {later:.0f} mm"
            )
            tile["caption"] = f"{error:.0f} mm → {later:.0f} mm"
        tiles.append(tile)
    parts = list(group.parts_mm.items())[:3]
    return {**_table_row(group), "parts": ", ".join(f"{part} {mm:.0f} mm" for part, mm in parts), "tiles": tiles,
            "change": _change(group) if group.change_mm else None}  # fmt: skip


def _table_row(group: Group) -> dict[str, Any]:
    low, high = group.mean_mm.low, group.mean_mm.high
    return {
        "number": group.number,
        "name": group.name,
        "pictures": len(group.rows),
        "mean": f"{group.mean_mm.value:.0f}",
        "range": f"[{low:.0f}, {high:.0f}]",
        "worst": f"{group.worst_mm:.0f}",
        "common": {source: _percent(share) for source, share in group.common.items()},
        "carried": {source: _percent(share) for source, share in group.carried.items()},
        "after": None if group.after_mm is None else f"{group.after_mm.value:.0f}",
        "change": None if group.change_mm is None else _signed(group.change_mm.value),
        "verdict": _verdict(group),
    }


def _change(group: Group) -> dict[str, Any]:
    change = group.change_mm
    assert change is not None and group.after_mm is not None
    return {
        **_table_row(group),
        "change": _signed(change.value),
        "change_range": f"[{_signed(change.low)}, {_signed(change.high)}]",
    }


def _verdict(group: Group) -> str:
    return "worse" if group.clearly_worse else "better" if group.clearly_better else "unclear"


def _leaf(branch: Branch) -> dict[str, str]:
    return {
        "mean": f"{branch.mean_mm:.0f}", "share": _percent(branch.share), "carried": _percent(branch.carried),
        "count": str(branch.count),
    }  # fmt: skip


def _plots(atlas: Atlas, shown: Sequence[Group]) -> dict[str, Any]:
    facts, errors = atlas.sample.facts, atlas.errors_mm
    named = [f"{group.number}. {_short(group.name)}" for group in atlas.groups]
    source = TARGET if TARGET in atlas.sources else POOL
    views = [("before", errors)] + ([("after", atlas.after_mm)] if atlas.after_mm is not None else [])
    titled = len(views) > 1
    return {
        "carried": page_plot(
            maps.carried_plot(
                named, {s: [g.common[s] for g in atlas.groups] for s in atlas.sources},
                [g.carried[source] for g in atlas.groups],
            ),
            "carried", f"Every group's share of the pictures and of the total error ({source}), the worst first.",
        ),
        "map": page_plot(
            maps.pose_map(
                atlas.places, errors[atlas.mapped], atlas.of_group[atlas.mapped], [group.number for group in shown]
            ),
            "map",
            f"A map of {len(atlas.mapped)} poses: near each other means alike ({maps.way_of(len(atlas.mapped))} of "
            "joints in the trunk's frame). Bright is a large error; the numbers are the groups' above. Groups differ "
            "by view, too: one may be spread over the map.",
        ),
        "views": [
            page_plot(
                maps.viewpoint_map(facts["azimuth_deg"], facts["elevation_deg"], values, name if titled else ""),
                f"view-{name}", f"Mean error (mm){f' {name}' if titled else ''} by where the camera stands, with the "
                f"number of pictures below it. Cells of fewer than {maps.FEW} pictures are pale.",
            )
            for name, values in views
        ],
        "conditions": page_plot(
            maps.conditions_plot(facts, errors, atlas.after_mm, conditions_of(atlas)), "conditions",
            "Mean error by condition; the grey bars are how many pictures there are. Points of fewer than "
            f"{maps.FEW} pictures are left out.",
        ),
    }  # fmt: skip


def _generated(
    arms: Sequence[ArmLooks], references: Mapping[str, Mapping[str, Any]], folders: Mapping[str, Path]
) -> dict[str, Any]:
    if not arms:
        return {"arms": [], "arm_plots": [], "references": []}
    plots = [
        page_plot(
            real.distributions(arms, references), "distributions",
            "Poses, cameras and looks of each arm (lines) against real ones (grey; dashed: the target). Poses are "
            "compared with the pool's, cameras and looks with the proposal's.",
        ),
        page_plot(real.nearest_plot(arms), "nearest", "How far the arms' poses are from the nearest real pose."),
    ]  # fmt: skip
    return {
        "arms": [_arm(arm, folders[arm.arm]) for arm in arms], "arm_plots": plots, "references": list(references),
    }  # fmt: skip


def _arm(arm: ArmLooks, folder: Path) -> dict[str, Any]:
    told, look = arm.summary(), arm_look(arm.arm)
    rows = [row for row in arm.strangest(STRANGEST) if arm.nearest_mm[row] > STRANGE_MM]
    pictures = pictures_of(folder, [int(arm.sample.row_id[row]) for row in rows])
    return {
        "label": look.label,
        "meaning": look.meaning,
        "pictures": told["pictures"],
        "median": f"{told['nearest_median_mm']:.0f} mm",
        "high": f"{told['nearest_95_mm']:.0f} mm",
        "impossible": _percent(told["impossible"]),
        "apart": {
            name: ", ".join(f"{_fact(fact)} {value:.2f}" for fact, value in _farthest(facts))
            for name, facts in told["apart"].items()
        },
        "tiles": [_strange(arm.sample, row, pictures[int(arm.sample.row_id[row])], arm) for row in rows],
    }


def _farthest(facts: Mapping[str, float], count: int = 3) -> list[tuple[str, float]]:
    return sorted(facts.items(), key=lambda item: -item[1])[:count]


def _fact(name: str) -> str:
    from posegen.atlas.facts import KNOWN

    return KNOWN[name].title.partition(" (")[0]


def _strange(sample: Sample, row: int, picture: Pixels, arm: ArmLooks) -> dict[str, Any]:
    image = overlay(picture, [Skeleton(sample.joints_px[row], TRUTH)], _scale(picture))
    said = f"{arm.nearest_mm[row]:.0f} mm"
    shown: PagePicture = page_picture(image, f"row {int(sample.row_id[row])}, {said} from the nearest real pose")
    limits = f"{np.degrees(arm.violation_rad[row]):.0f}° over limits" if arm.violation_rad[row] > 0 else ""
    return {"picture": shown, "caption": said, "limits": limits}


def _short(name: str, most: int = 64) -> str:
    return name if len(name) <= most else name[: most - 1].rstrip(" ,") + "…"


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.1f} %" if percent < 9.95 else f"{percent:.0f} %"


def _signed(value: float) -> str:
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def _css(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
