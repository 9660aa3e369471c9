"""`posegen compare [RUN ...]`: runs side by side in the terminal, as a page and as JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from posegen.errors import ConfigError, PosegenError
from posegen.experiment.going_on import another
from posegen.experiment.run_folders import finished_runs, resolve_run
from posegen.files.results import free, write_result
from posegen.tracking.compare.compare import compare
from posegen.tracking.compare.page import comparison_blocks, comparison_legend, comparison_text
from posegen.tracking.report.formats import csv_text, latex, markdown
from posegen.tracking.report.run_directory import RunDirectory


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="posegen compare",
        description="Runs side by side: intervals paired on the same test images, seeds pooled, one HTML file. "
        "The first run is the reference; without names all finished runs of the outputs folder, the oldest first.",
    )
    made.add_argument(
        "runs", nargs="*", metavar="RUN", help="a run directory, or the name of one in the outputs folder"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers for machines")
    made.add_argument("--html", type=Path, metavar="FILE", help="where the page goes (default: OUTPUTS/compare.html)")
    made.add_argument("--csv", type=Path, metavar="FILE", help="also write every number of every run, one a line")
    made.add_argument("--overwrite", action="store_true", help="write over these files where they are there")
    form = made.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print the tables for a page")
    form.add_argument("--latex", action="store_true", help="print the tables for a paper (booktabs)")
    made.add_argument("--outputs", type=Path, default=Path("outputs"), help="the folder of runs (default: outputs)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 with the reason on standard error."""
    options = parser().parse_intermixed_args(argv)
    try:
        paths = [resolve_run(word, options.outputs) for word in options.runs] or finished_runs(options.outputs)
        if not paths:
            raise ConfigError("no finished run to compare", where=options.outputs, next_command="posegen run")
        paths = list(dict.fromkeys(paths))
        for named in filter(None, (options.html, options.json, options.csv)):
            free(named, options.overwrite)
        page = options.html or options.outputs / "compare.html"
        comparison = compare(paths, page, options.json)
        if options.csv:
            write_result(options.csv, csv_text(RunDirectory(path).summary for path in paths), overwrite=True)
    except PosegenError as error:
        sys.stderr.write(f"posegen compare: {error}\n")
        return 2
    if options.markdown or options.latex:
        blocks = comparison_blocks(comparison)
        sys.stdout.write(latex(blocks) if options.latex else f"{markdown(blocks)}\n{comparison_legend(comparison)}\n")
        return 0
    lines = [comparison_text(comparison), "", f"page: {page}"]
    lines += [f"json: {options.json}"] if options.json else []
    lines += [f"csv:  {options.csv}"] if options.csv else []
    if len(paths) == 1:
        seed = RunDirectory(paths[0]).summary.get("seed")
        again = another(paths[0], seed + 1 if isinstance(seed, int) else 1)
        lines.append(f"one run alone; a second to compare it with: {again}")
    lines.append("next: posegen ui   # the same runs in MLflow")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0
