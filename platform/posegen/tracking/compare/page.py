"""The page and the terminal table of a comparison of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from posegen.tracking.report.cells import change_cell
from posegen.tracking.report.findings import direction, signed
from posegen.tracking.report.page import PagePlot, page_plot, render
from posegen.tracking.report.style import MUTED, arm_look, new_figure, quiet_style, series_colours
from posegen.tracking.report.tables import Row, align, change_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from posegen.tracking.compare.compare import Comparison, Paired, RunFacts, SeedGroup


def comparison_text(comparison: Comparison) -> str:
    """For the terminal: the method of each run by benchmark, the pairs, the seeds."""
    rows: list[Row] = []
    for run in comparison.runs:
        row: Row = [(run.run, "")]
        for benchmark in comparison.benchmarks:
            cell = run.mpjpe_mm.get(benchmark, {}).get(run.method)
            row.append(("–" if cell is None else f"{cell.value:.1f}", ""))
        row.append(("", change_text("mpjpe_mm", run.change.get(run.method), " %")))
        rows.append(row)
    blocks = [align(["MPJPE (mm)", *comparison.benchmarks, "against before"], rows)]
    if comparison.paired:
        pairs: list[Row] = []
        for pair in comparison.paired:
            cells = [pair.difference_mm.get(benchmark) for benchmark in comparison.benchmarks]
            texts = [("", change_text("mpjpe_mm", cell) or "not paired") for cell in cells]
            pairs.append([(f"{pair.run} − {pair.reference}", ""), *texts, ("", _mean_text(pair))])
        blocks.append(align(["same images (mm)", *comparison.benchmarks, "mean"], pairs))
    blocks += [_seeds_text(group) for group in comparison.seeds]
    blocks.append("± half the 95 % interval; * fewer errors, ! more errors: the interval excludes 0.")
    return "\n\n".join(blocks)


def _mean_text(pair: Paired) -> str:
    return change_text("mpjpe_mm", pair.relative_percent, " %") or "–"


def _seeds_text(group: SeedGroup) -> str:
    rows: list[Row] = [
        [
            (arm_look(arm).label, ""),
            ("", signed(s.mean)),
            ("", f"{s.sd:.1f}"),
            ("", f"{signed(s.low)} .. {signed(s.high)}"),
        ]
        for arm, s in group.change.items()
    ]
    return align([f"{len(set(group.seeds))} seeds of {group.experiment}: change (%)", "mean", "sd", "range"], rows)


def write_page(comparison: Comparison, out: Path) -> Path:
    """One self-contained HTML file."""
    return render(
        "compare.html",
        out,
        finding=_finding(comparison),
        runs=[_run_row(run, comparison.benchmarks, out) for run in comparison.runs],
        benchmarks=comparison.benchmarks,
        pairs=[_pair_row(pair, comparison.benchmarks) for pair in comparison.paired],
        plots=_plots(comparison),
        seeds=[_seed_table(group) for group in comparison.seeds],
        differences=comparison.config_differences,
        run_names=[run.run for run in comparison.runs],
        problems=comparison.problems,
    )


def _finding(comparison: Comparison) -> str:
    if comparison.seeds and len(comparison.seeds[0].runs) == len(comparison.runs):
        group = comparison.seeds[0]
        method = comparison.runs[0].method
        spread = group.change.get(method)
        if spread is not None:
            improved = sum(value < 0 for value in spread.values)
            return (
                f"Over {len(set(group.seeds))} seeds {arm_look(method).label} changed the error (MPJPE) by "
                f"{signed(spread.mean)} % ± {spread.sd:.1f} (standard deviation); it fell in {improved} of "
                f"{len(spread.values)} runs."
            )
    clear = [p for p in comparison.paired if p.relative_percent is not None and p.relative_percent.clear]
    if not clear:
        return "No run differs clearly from the first on the same test images."
    pair = min(clear, key=lambda p: p.relative_percent.value if p.relative_percent else 0.0)
    assert pair.relative_percent is not None
    change = pair.relative_percent
    verb = "fewer" if change.value < 0 else "more"
    return (
        f"{pair.run} makes {abs(change.value):.1f} % {verb} errors (MPJPE) than {pair.reference} on the same test "
        f"images [{signed(change.low)}, {signed(change.high)}]."
    )


def _run_row(run: RunFacts, benchmarks: list[str], out: Path) -> dict[str, Any]:
    cells = []
    for benchmark in benchmarks:
        by_arm = run.mpjpe_mm.get(benchmark, {})
        before, after = by_arm.get("before"), by_arm.get(run.method)
        cells.append("–" if before is None or after is None else f"{before.value:.1f} → {after.value:.1f}")
    report = Path(run.path) / "report.html"
    link = None
    if report.is_file():
        try:
            link = report.resolve().relative_to(out.resolve().parent).as_posix()
        except ValueError:
            link = report.resolve().as_uri()
    change = change_cell("mpjpe_mm", run.change.get(run.method), " %")
    facts = f"{run.experiment} · seed {run.seed} · {run.git_commit[:10]} · {run.created[:16].replace('T', ' ')}"
    return {"name": run.run, "link": link, "facts": facts, "cells": cells, "change": change}


def _pair_row(pair: Paired, benchmarks: list[str]) -> dict[str, Any]:
    cells = []
    for benchmark in benchmarks:
        difference = pair.difference_mm.get(benchmark)
        why = pair.unpaired.get(benchmark, "not evaluated")
        cells.append({"change": change_cell("mpjpe_mm", difference), "why": why})
    mean = change_cell("mpjpe_mm", pair.relative_percent, " %")
    return {"name": f"{pair.run} − {pair.reference}", "cells": cells, "mean": mean}


def _seed_table(group: SeedGroup) -> dict[str, Any]:
    rows = []
    for arm, change in group.change.items():
        cells = [
            f"{by_arm[arm].mean:.1f} ± {by_arm[arm].sd:.1f}" if arm in by_arm else "–"
            for by_arm in group.mpjpe_mm.values()
        ]
        said = f"{signed(change.mean)} % ± {change.sd:.1f}"
        rows.append({"label": arm_look(arm).label, "cells": cells, "change": said})
    seeds = ", ".join(map(str, group.seeds))
    return {
        "title": f"{group.experiment}: seeds {seeds}",
        "benchmarks": list(group.mpjpe_mm),
        "rows": rows,
        "name": "-".join(group.runs),
    }


def _plots(comparison: Comparison) -> list[PagePlot]:
    made = [
        page_plot(
            run_changes(comparison),
            "changes",
            "Mean relative change of MPJPE over the benchmarks, an arm a line, a run a dot with its 95 % interval.",
        )
    ]
    if any(pair.difference_mm for pair in comparison.paired):
        caption = f"MPJPE minus that of {comparison.paired[0].reference} on the same test images, 95 % intervals."
        made.append(page_plot(pair_differences(comparison), "pairs", caption))
    return made


def run_changes(comparison: Comparison) -> Figure:
    """The mean relative change of every arm in every run."""
    arms = [arm for arm in comparison.arms if arm != "before"]
    colours = series_colours(len(comparison.runs))
    with quiet_style():
        height = 0.9 + len(arms) * (0.2 + 0.12 * len(comparison.runs))
        figure, axes = new_figure(7.2, height)
        axis = axes[0, 0]
        axis.axvline(0.0, color=MUTED, linewidth=1)
        for number, (run, colour) in enumerate(zip(comparison.runs, colours, strict=True)):
            offset = (number - (len(colours) - 1) / 2) * 0.7 / max(len(colours), 1)
            for y, arm in enumerate(arms):
                cell = run.change.get(arm)
                if cell is not None:
                    axis.plot([cell.low, cell.high], [y + offset] * 2, color=colour)
                    label = run.run if y == len(arms) - 1 else None
                    axis.scatter(cell.value, y + offset, s=30, color=colour, label=label, zorder=3)
        axis.set_yticks(range(len(arms)), [arm_look(arm).label for arm in arms])
        axis.set_ylim(len(arms) - 0.4, -0.6)
        axis.set_xlabel("mean relative change of MPJPE (%); left is better")
        axis.grid(axis="y", visible=False)
        figure.legend(loc="outside upper right", ncols=min(len(colours), 4))
    return figure


def pair_differences(comparison: Comparison) -> Figure:
    """Paired differences by benchmark, a line a run."""
    lines = [
        (f"{benchmark}: {pair.run}", pair.difference_mm[benchmark])
        for benchmark in comparison.benchmarks
        for pair in comparison.paired
        if benchmark in pair.difference_mm
    ]
    tones = {"better": "#0072b2", "worse": "#d55e00", "unclear": "#868d99"}
    with quiet_style():
        figure, axes = new_figure(7.2, 0.8 + 0.27 * len(lines))
        axis = axes[0, 0]
        axis.axvline(0.0, color=MUTED, linewidth=1)
        for y, (_, cell) in enumerate(lines):
            colour = tones[direction("mpjpe_mm", cell)]
            axis.plot([cell.low, cell.high], [y, y], color=colour)
            axis.scatter(cell.value, y, s=32, color=colour, zorder=3)
        axis.set_yticks(range(len(lines)), [label for label, _ in lines])
        axis.set_ylim(len(lines) - 0.4, -0.6)
        axis.set_xlabel("difference of MPJPE (mm); left is better, grey is unclear")
        axis.grid(axis="y", visible=False)
    return figure
