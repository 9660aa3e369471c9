"""The page and the terminal table of a comparison of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from posegen.arms.registry import BEFORE, in_order
from posegen.benchmarks.measure.trainings import few_trainings
from posegen.tracking.compare.judged import enough, estimate
from posegen.tracking.compare.settings_page import (
    duel_in_words,
    settings_blocks,
    settings_finding,
    settings_plot,
    settings_tables,
)
from posegen.tracking.report.cells import change_cell
from posegen.tracking.report.findings import METRIC_NAMES, signed
from posegen.tracking.report.page import PagePlot, page_plot, render
from posegen.tracking.report.style import MUTED, arm_look, legend_columns, new_figure, quiet_style, series_colours
from posegen.tracking.report.tables import Block, Row, change_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from posegen.tracking.compare.compare import Comparison, Paired, RunFacts, SeedGroup


def comparison_text(comparison: Comparison) -> str:
    """For the terminal: the method of each run by benchmark, the pairs, the seeds."""
    return "\n\n".join([*(block.text() for block in comparison_blocks(comparison)), comparison_legend(comparison)])


def comparison_blocks(comparison: Comparison) -> list[Block]:
    """The tables of a comparison: the method of each run by benchmark, the pairs, the seeds."""
    rows: list[Row] = []
    for run in comparison.runs:
        row: Row = [(run.run, "")]
        for benchmark in comparison.benchmarks:
            cell = run.mpjpe_mm.get(benchmark, {}).get(run.method)
            row.append(("–" if cell is None else f"{cell.value:.1f}", ""))
        row.append(("", change_text("mpjpe_mm", run.change.get(run.method), " %")))
        rows.append(row)
    single = [Block(["MPJPE (mm)", *comparison.benchmarks, "against before"], rows)]
    pooled = [block for group in comparison.seeds for block in _seed_blocks(group)]
    if _several_settings(comparison):  # what single trainings say of each other is chance
        return [*settings_blocks(comparison.seeds), *pooled, *single]
    if comparison.paired:
        pairs: list[Row] = []
        for pair in comparison.paired:
            cells = [pair.difference_mm.get(benchmark) for benchmark in comparison.benchmarks]
            texts = [("", change_text("mpjpe_mm", cell, judged=False) or "not paired") for cell in cells]
            pairs.append([(f"{pair.run} − {pair.reference}", ""), *texts, ("", _mean_text(pair))])
        single.append(Block(["same images (mm)", *comparison.benchmarks, "mean"], pairs))
    return single + pooled


def comparison_legend(comparison: Comparison) -> str:
    """What the marks in these tables mean."""
    legend = "± half the 95 % interval; * fewer errors, ! more errors than before: the interval excludes 0."
    if comparison.paired and not _several_settings(comparison):
        legend += f"\nRuns against each other are never called clear: {few_trainings(1)}."
    return legend


def _mean_text(pair: Paired) -> str:
    return change_text("mpjpe_mm", pair.relative_percent, " %", judged=False) or "–"


def _seed_blocks(group: SeedGroup) -> list[Block]:
    rows: list[Row] = [
        [
            (arm_look(arm).label, ""),
            ("", signed(s.mean)),
            ("", f"{s.sd:.1f}"),
            ("", f"{signed(s.low)} .. {signed(s.high)}"),
        ]
        for arm, s in group.change.items()
    ]
    title = f"{len(set(group.seeds))} seeds of {group.setting or group.experiment}: change (%)"
    spreads = Block([title, "mean", "sd", "range"], rows)
    means = [
        Block([title, *group.mpjpe_mm], [[(label, ""), *(("", cell) for cell in cells)] for label, cells in rows])
        for title, rows in _means(group)
    ]
    blocks = [spreads, *means, *_changes_block(group)]
    if not group.judged:
        return blocks
    label = arm_look(group.method).label
    duels: list[Row] = [
        [
            (arm_look(arm).label, ""),
            ("", f"{signed(j.value)} [{signed(j.low)}, {signed(j.high)}]"),
            ("", j.verdict(label, arm_look(arm).label)),
        ]
        for arm, j in group.judged.items()
    ]
    return [*blocks, Block([f"{label} against", "MPJPE (%), over seeds and images", "verdict"], duels)]


def _means(group: SeedGroup) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Tables of what each arm has on each benchmark in the mean over seeds: title, and by arm its label and cells."""
    arms = in_order({arm for by_arm in group.mpjpe_mm.values() for arm in by_arm})

    def errors(benchmark: str, arm: str) -> str:
        mpjpe, aligned = group.mpjpe_mm[benchmark].get(arm), group.pa_mpjpe_mm.get(benchmark, {}).get(arm)
        if mpjpe is None:
            return "–"
        spread = "" if arm == BEFORE else f" ± {mpjpe.sd:.1f}"  # `before` is the same for every seed
        return f"{mpjpe.mean:.1f}{spread}" + ("" if aligned is None else f" / {aligned.mean:.1f}")

    def turned(benchmark: str, arm: str) -> str:
        share = group.wrong_way_round.get(benchmark, {}).get(arm)
        return "–" if share is None else f"{share.mean:.1f}"

    tables = {"MPJPE / PA-MPJPE (mm)": errors}
    if any(group.wrong_way_round.values()):
        tables[METRIC_NAMES["wrong_way_round"]] = turned
    return [
        (title, [(arm_look(arm).label, [told(benchmark, arm) for benchmark in group.mpjpe_mm]) for arm in arms])
        for title, told in tables.items()
    ]


def _columns(group: SeedGroup) -> list[str]:
    """What is measured of any arm."""
    return list(dict.fromkeys(label for cells in group.changes.values() for label in cells))


def _changes_block(group: SeedGroup) -> list[Block]:
    columns = _columns(group)
    if not columns:
        return []
    rows: list[Row] = []
    for arm, cells in group.changes.items():
        texts = [
            change_text("mpjpe_mm", estimate(cells.get(label)), judged=enough(cells.get(label))) for label in columns
        ]
        rows.append([(arm_look(arm).label, ""), *(("", text or "–") for text in texts)])
    return [Block(["against before (%)", *columns], rows)]


def write_page(comparison: Comparison, out: Path) -> Path:
    """One self-contained HTML file."""
    return render(
        "compare.html",
        out,
        finding=_finding(comparison),
        runs=[_run_row(run, comparison.benchmarks, out) for run in comparison.runs],
        pooled_first=_all_pooled(comparison),
        settings=_settings(comparison) if len(comparison.seeds) > 1 else None,
        several=_several_settings(comparison),
        benchmarks=comparison.benchmarks,
        pairs=[_pair_row(pair, comparison.benchmarks) for pair in comparison.paired],
        plots=_plots(comparison),
        seeds=[_seed_table(group) for group in comparison.seeds],
        differences=comparison.config_differences,
        run_names=[run.run for run in comparison.runs],
        problems=comparison.problems,
    )


def _settings(comparison: Comparison) -> dict[str, Any]:
    caption = "MPJPE of each setting's arms against before, 95 % intervals over seeds and groups of test images."
    return {
        **settings_tables(comparison.seeds),
        "plot": page_plot(settings_plot(comparison.seeds), "settings", caption),
    }


def _all_pooled(comparison: Comparison) -> bool:
    """Whether each run is one seed of several of a setting."""
    return sum(len(group.runs) for group in comparison.seeds) == len(comparison.runs)


def _several_settings(comparison: Comparison) -> bool:
    """Whether the runs are settings, each over seeds."""
    return _all_pooled(comparison) and len(comparison.seeds) > 1


def _seeds_of_all(comparison: Comparison) -> SeedGroup | None:
    """The group of all runs, if they differ in their seed only."""
    group = comparison.seeds[0] if comparison.seeds else None
    return group if group and len(group.runs) == len(comparison.runs) else None


def _shown_names(comparison: Comparison) -> list[str]:
    """Of the runs in plots: their seeds, where nothing else tells them apart."""
    settings = {run: group.setting for group in comparison.seeds for run in group.runs}
    names = [f"{settings.get(run.run, '')} seed {run.seed}".strip() for run in comparison.runs]
    return names if _all_pooled(comparison) and len(set(names)) == len(names) else [run.run for run in comparison.runs]


def _finding(comparison: Comparison) -> str:
    group = _seeds_of_all(comparison)
    if group is not None:
        method = comparison.runs[0].method
        spread = group.change.get(method)
        if spread is not None:
            improved = sum(value < 0 for value in spread.values)
            return (
                f"Over {len(set(group.seeds))} seeds {arm_look(method).label} changed the error (MPJPE) by "
                f"{signed(spread.mean)} % ± {spread.sd:.1f} (standard deviation); it fell in {improved} of "
                f"{len(spread.values)} runs.{duel_in_words(group)}"
            )
    if _several_settings(comparison):
        return settings_finding(comparison.seeds)
    measured = [(p, p.relative_percent) for p in comparison.paired if p.relative_percent is not None]
    if not measured:
        return "No run was measured on the same test images as the first."
    pair, change = min(measured, key=lambda both: both[1].value)
    return (
        f"On the same test images {pair.run} differs by {signed(change.value)} % (MPJPE) from {pair.reference} "
        f"[{signed(change.low)}, {signed(change.high)}], which settles nothing: {few_trainings(1)}."
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
        cells.append({"change": change_cell("mpjpe_mm", difference, judged=False), "why": why})
    mean = change_cell("mpjpe_mm", pair.relative_percent, " %", judged=False)
    return {"name": f"{pair.run} − {pair.reference}", "cells": cells, "mean": mean}


def _seed_table(group: SeedGroup) -> dict[str, Any]:
    average = {arm_look(arm).label: f"{signed(s.mean)} % ± {s.sd:.1f}" for arm, s in group.change.items()}
    seeds, columns = ", ".join(map(str, group.seeds)), _columns(group)
    return {
        "title": f"{group.setting or group.experiment}: seeds {seeds}",
        "benchmarks": list(group.mpjpe_mm),
        "means": [{"title": title, "rows": rows} for title, rows in _means(group)],
        "average": average,
        "method": arm_look(group.method).label,
        "columns": columns,
        "changes": [
            {
                "label": arm_look(arm).label,
                "cells": [
                    change_cell("mpjpe_mm", estimate(cells.get(label)), " %", judged=enough(cells.get(label)))
                    for label in columns
                ],
            }
            for arm, cells in group.changes.items()
        ],
        "duels": [
            {
                "label": arm_look(arm).label,
                "change": change_cell("mpjpe_mm", estimate(j), " %", judged=j.enough),
                "verdict": j.verdict(arm_look(group.method).label, arm_look(arm).label),
            }
            for arm, j in group.judged.items()
        ],
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
    # Between single seeds there is nothing to see but chance.
    if not _all_pooled(comparison) and any(pair.difference_mm for pair in comparison.paired):
        caption = f"MPJPE minus that of {comparison.paired[0].reference} on the same test images, 95 % intervals."
        made.append(page_plot(pair_differences(comparison), "pairs", caption))
    return made


def run_changes(comparison: Comparison) -> Figure:
    """The mean relative change of every arm in every run."""
    arms = [arm for arm in comparison.arms if arm != "before"]
    colours, names, width = series_colours(len(comparison.runs)), _shown_names(comparison), 7.2
    with quiet_style():
        height = 0.9 + len(arms) * (0.2 + 0.12 * len(comparison.runs))
        figure, axes = new_figure(width, height)
        axis = axes[0, 0]
        axis.axvline(0.0, color=MUTED, linewidth=1)
        for number, (run, name, colour) in enumerate(zip(comparison.runs, names, colours, strict=True)):
            offset = (number - (len(colours) - 1) / 2) * 0.7 / max(len(colours), 1)
            for y, arm in enumerate(arms):
                cell = run.change.get(arm)
                if cell is not None:
                    axis.plot([cell.low, cell.high], [y + offset] * 2, color=colour)
                    label = name if y == len(arms) - 1 else None
                    axis.scatter(cell.value, y + offset, s=30, color=colour, label=label, zorder=3)
        axis.set_yticks(range(len(arms)), [arm_look(arm).label for arm in arms])
        axis.set_ylim(len(arms) - 0.4, -0.6)
        axis.set_xlabel("mean relative change of MPJPE (%); left is better")
        axis.grid(axis="y", visible=False)
        figure.legend(loc="outside upper right", ncols=legend_columns(names, width))
    return figure


def pair_differences(comparison: Comparison) -> Figure:
    """Paired differences by benchmark, a line a run."""
    lines = [
        (f"{benchmark}: {pair.run}", pair.difference_mm[benchmark])
        for benchmark in comparison.benchmarks
        for pair in comparison.paired
        if benchmark in pair.difference_mm
    ]
    with quiet_style():
        figure, axes = new_figure(7.2, 0.8 + 0.27 * len(lines))
        axis = axes[0, 0]
        axis.axvline(0.0, color=MUTED, linewidth=1)
        for y, (_, cell) in enumerate(lines):
            axis.plot([cell.low, cell.high], [y, y], color=MUTED)  # two single trainings: no colour says who is better
            axis.scatter(cell.value, y, s=32, color=MUTED, zorder=3)
        axis.set_yticks(range(len(lines)), [label for label, _ in lines])
        axis.set_ylim(len(lines) - 0.4, -0.6)
        axis.set_xlabel("difference of MPJPE (mm) of one training each; left is better")
        axis.grid(axis="y", visible=False)
    return figure
