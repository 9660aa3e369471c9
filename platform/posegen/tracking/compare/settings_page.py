"""What a comparison says of several settings, each over seeds: one line a setting, in the terminal and on the page."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from posegen.arms.registry import in_order
from posegen.benchmarks.measure.trainings import Judged
from posegen.tracking.compare.judged import enough, estimate
from posegen.tracking.report.cells import change_cell
from posegen.tracking.report.findings import signed
from posegen.tracking.report.style import MUTED, arm_look, legend_columns, new_figure, quiet_style
from posegen.tracking.report.tables import Block, Row, change_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from posegen.tracking.compare.compare import SeedGroup


def _measured(groups: Sequence[SeedGroup]) -> list[str]:
    """What is measured of each setting's method against before."""
    labels = (label for group in groups for label in group.changes.get(group.method, {}))
    return [label for label in dict.fromkeys(labels) if "against" not in label]


def _rivals(groups: Sequence[SeedGroup]) -> list[str]:
    """What else each setting's method is set against, in words."""
    arms = dict.fromkeys(arm for group in groups for arm in group.judged if arm != "before")
    return [*(f"against {arm_look(arm).label}" for arm in arms), "against the first"]


def _cells(group: SeedGroup) -> dict[str, Judged | None]:
    cells: dict[str, Judged | None] = dict(group.changes.get(group.method, {}))
    cells |= {f"against {arm_look(arm).label}": judged for arm, judged in group.judged.items()}
    return cells | {"against the first": group.against_first}


def settings_blocks(groups: Sequence[SeedGroup]) -> list[Block]:
    """The method of each setting: its change of each measure against before, then its MPJPE against the other arms'
    and against the first setting's method, in %."""
    label = arm_look(groups[0].method).label
    return [
        _block(f"{label} against before (%)", groups, _measured(groups)),
        _block(f"{label}, MPJPE (%)", groups, _rivals(groups)),
    ]


def _block(title: str, groups: Sequence[SeedGroup], columns: Sequence[str]) -> Block:
    rows: list[Row] = []
    for group in groups:
        cells = [_cells(group).get(column) for column in columns]
        texts = [change_text("mpjpe_mm", estimate(cell), judged=enough(cell)) or "–" for cell in cells]
        rows.append([(group.setting, ""), *(("", text) for text in texts)])
    return Block([title, *columns], rows)


def settings_tables(groups: Sequence[SeedGroup]) -> dict[str, Any]:
    """The same for the page."""
    tables = [
        (columns, [_shown(group, columns) for group in groups]) for columns in (_measured(groups), _rivals(groups))
    ]
    return {"method": arm_look(groups[0].method).label, "tables": tables}


def _shown(group: SeedGroup, columns: Sequence[str]) -> dict[str, Any]:
    cells = [_cells(group).get(column) for column in columns]
    shown = [change_cell("mpjpe_mm", estimate(cell), " %", judged=enough(cell)) for cell in cells]
    return {"label": group.setting, "seeds": ", ".join(map(str, group.seeds)), "cells": shown}


def settings_plot(groups: Sequence[SeedGroup]) -> Figure:
    """MPJPE of each setting's arms against before, over trainings and images."""
    arms = in_order({arm for group in groups for arm in group.changes})
    looks = [arm_look(arm) for arm in arms]
    width = 7.2
    with quiet_style():
        figure, axes = new_figure(width, 1.0 + len(groups) * max(0.45, 0.15 + 0.14 * len(arms)))
        axis = axes[0, 0]
        axis.axvline(0.0, color=MUTED, linewidth=1)
        for y, group in enumerate(groups):
            for number, (arm, look) in enumerate(zip(arms, looks, strict=True)):
                judged = group.changes.get(arm, {}).get("MPJPE")
                if judged is not None:
                    place = y + (number - (len(arms) - 1) / 2) * 0.7 / len(arms)
                    axis.plot([judged.low, judged.high], [place, place], color=look.colour)
                    axis.scatter(judged.value, place, s=30, color=look.colour, marker=look.marker, zorder=3)
        for look in looks:
            axis.scatter([], [], s=30, color=look.colour, marker=look.marker, label=look.label)
        axis.set_yticks(range(len(groups)), [textwrap.fill(group.setting, 30) for group in groups])
        axis.set_ylim(len(groups) - 0.5, -0.5)
        axis.set_xlabel("change of MPJPE (%); left is better")
        axis.grid(axis="y", visible=False)
        figure.legend(loc="outside upper right", ncols=legend_columns([look.label for look in looks], width))
    return figure


def settings_finding(groups: Sequence[SeedGroup]) -> str:
    """Which setting did best, and whether it is set apart from the first."""
    told = [(group.changes.get(group.method, {}).get("MPJPE"), group) for group in groups]
    measured = [(judged, group) for judged, group in told if judged is not None]
    if not measured:
        return "No setting has a method that was measured."
    change, best = min(measured, key=lambda both: both[0].value)
    said = (
        f"Of {len(groups)} settings, each over seeds, {best.setting} changed the error (MPJPE) of "
        f"{arm_look(best.method).label} most: {_in_words(change)}.{duel_in_words(best)}"
    )
    if best.against_first is None:
        return said
    verdict = best.against_first.verdict(best.setting, groups[0].setting)
    return f"{said} Against {groups[0].setting}: {_in_words(best.against_first)}; {verdict}."


def duel_in_words(group: SeedGroup) -> str:
    """The method against the best baseline, judged over trainings."""
    rivals = {arm: judged for arm, judged in group.judged.items() if arm != "before"}
    if not rivals:
        return ""
    arm = max(rivals, key=lambda name: rivals[name].value)
    judged, label = rivals[arm], arm_look(group.method).label
    return (
        f" Against the strongest baseline, {arm_look(arm).label}: {_in_words(judged)} over seeds and images; "
        f"{judged.verdict(label, arm_look(arm).label)}."
    )


def _in_words(judged: Judged) -> str:
    return f"{signed(judged.value)} % [{signed(judged.low)}, {signed(judged.high)}]"
