"""The table of a run as text for the terminal: MPJPE by arm and benchmark with the paired change against `before`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posegen.arms.registry import method_of
from posegen.tracking.report.findings import METRIC_NAMES, Estimate, average_change, direction
from posegen.tracking.report.style import arm_look

WIDTH = 120
MARKS = {"better": "*", "worse": "!", "unclear": " "}
LEGEND = """\
MPJPE of each arm, then its change against `before` on the same test images ± half its 95 % interval.
* better, ! worse than before (the interval excludes 0). PCK, AUC: higher is better; all else: lower."""

Row = list[tuple[str, str]]  # per column a main text and what is said about it, each aligned for itself


@dataclass(frozen=True)
class Block:
    """One table: a header and rows of as many columns."""

    header: Sequence[str]
    rows: Sequence[Row]
    title: str = ""

    def text(self) -> str:
        """For the terminal."""
        return "\n".join([*([self.title] if self.title else []), align(self.header, self.rows)])

    def cells(self) -> list[list[str]]:
        """The rows without alignment: a column's two texts as one."""
        return [[f"{main} {said}".strip() for main, said in row] for row in self.rows]


def table_text(summary: Mapping[str, Any]) -> str:
    """Plain text, aligned, at most 120 columns wide (more than four benchmarks continue in further tables)."""
    blocks = table_blocks(summary, most=4)
    if not blocks:
        return "no result yet: the summary holds no benchmark"
    return "\n\n".join([*(block.text() for block in blocks), LEGEND])


def table_blocks(summary: Mapping[str, Any], most: int = 1000) -> list[Block]:
    """The tables of a run: MPJPE of all arms, all metrics of the method, what is watched beside them.

    Args:
        most: benchmarks side by side; more continue in further tables.
    """
    benchmarks: Mapping[str, Any] = summary.get("benchmarks") or {}
    arms: Sequence[str] = summary.get("arms") or []
    if not benchmarks or not arms:
        return []
    names = list(benchmarks)
    chunks = [names[start : start + most] for start in range(0, len(names), most)]
    blocks = [_arms_block(summary, arms, chunk) for chunk in chunks]
    method = method_of(arms)
    if method is not None:
        blocks += [_metrics_block(summary, method, chunk) for chunk in chunks]
    watched = list(summary.get("watched") or {})
    if watched:
        blocks.append(_arms_block(summary, arms, watched, "watched"))
    return blocks


def suite_text(summary: Mapping[str, Any]) -> str:
    """All metrics of one estimator on the benchmarks of a suite, with 95 % intervals."""
    blocks = []
    for part, title in (("benchmarks", str(summary["estimator"])), ("watched", "watched beside them")):
        names = list(summary.get(part) or {})
        for chunk in [names[start : start + 4] for start in range(0, len(names), 4)]:
            rows: list[Row] = []
            for metric in summary["metrics"]:
                cells = [Estimate.of(summary[part][name]["arms"]["before"].get(metric)) for name in chunk]
                texts = [
                    ("–", "") if cell is None else (f"{cell.value:.1f}", f"[{cell.low:.1f}, {cell.high:.1f}]")
                    for cell in cells
                ]
                if any(cell is not None for cell in cells):
                    rows.append([(METRIC_NAMES.get(metric, metric), ""), *texts])
            blocks.append(align([title, *chunk], rows))
    protocols = [
        by_arm["protocol"] for part in ("benchmarks", "watched") for by_arm in (summary.get(part) or {}).values()
    ]
    return "\n\n".join([*blocks, "\n".join(protocols)])


def change_text(metric: str, difference: Estimate | None, unit: str = "", judged: bool = True) -> str:
    """`-14.6±1.5*`: the change, half its interval, and whether it is clear; two single trainings never are."""
    if difference is None:
        return ""
    half = (difference.high - difference.low) / 2
    return f"{difference.value:+.1f}±{half:.1f}{unit}{MARKS[direction(metric, difference) if judged else 'unclear']}"


def _arms_block(
    summary: Mapping[str, Any], arms: Sequence[str], names: Sequence[str], part: str = "benchmarks"
) -> Block:
    rows: list[Row] = []
    for arm in arms:
        row: Row = [(arm_look(arm).label, "")]
        for name in names:
            by_arm = summary[part][name]
            value = Estimate.of(by_arm.get("arms", {}).get(arm, {}).get("mpjpe_mm"))
            difference = Estimate.of(by_arm.get("difference", {}).get(arm, {}).get("mpjpe_mm"))
            text = "–" if value is None else f"{value.value:.1f}"
            row.append((text, change_text("mpjpe_mm", None if arm == "before" else difference)))
        if part == "benchmarks":
            average = None if arm == "before" else average_change(summary, arm)
            row.append(("", change_text("mpjpe_mm", average, " %")))
        rows.append(row)
    title = "" if part == "benchmarks" else "watched beside them, not in the average:"
    return Block(["MPJPE (mm)", *names, *(["average"] if part == "benchmarks" else [])], rows, title)


def _metrics_block(summary: Mapping[str, Any], method: str, names: Sequence[str]) -> Block:
    rows: list[Row] = []
    for metric in summary.get("metrics") or METRIC_NAMES:
        row: Row = [(METRIC_NAMES.get(metric, metric), "")]
        for name in names:
            by_arm = summary["benchmarks"][name]
            before, after = (Estimate.of(by_arm.get("arms", {}).get(arm, {}).get(metric)) for arm in ("before", method))
            difference = Estimate.of(by_arm.get("difference", {}).get(method, {}).get(metric))
            mark = MARKS[direction(metric, difference)] if difference else " "
            known = before is not None and after is not None
            row.append((f"{before.value:.1f}", f"→ {after.value:5.1f}{mark}") if known else ("–", ""))  # type: ignore[union-attr]
        rows.append(row)
    return Block([f"before → {arm_look(method).label}", *names], rows)


def align(header: Sequence[str], rows: Sequence[Row]) -> str:
    """The first column to the left, in the others numbers under numbers; a rule below the header."""
    cells: list[list[str]] = [[] for _ in rows]
    for column in range(len(header)):
        left = max((len(row[column][0]) for row in rows), default=0)
        right = max((len(row[column][1]) for row in rows), default=0)
        for line, row in zip(cells, rows, strict=True):
            main, said = row[column]
            gap = " " if left and right else ""
            line.append(main.ljust(left) if column == 0 else f"{main.rjust(left)}{gap}{said.rjust(right)}")
    widths = [max(len(title), *(len(line[i]) for line in cells)) for i, title in enumerate(header)]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths))
        )
        for line in ([*header], *cells)
    ]
    return "\n".join([lines[0].rstrip(), "─" * max(map(len, lines)), *(line.rstrip() for line in lines[1:])])
