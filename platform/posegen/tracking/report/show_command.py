"""`posegen show [RUN]`: a finished run's table again, for the terminal, a page, a paper or a machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from posegen.errors import ConfigError, DataError
from posegen.experiment.run_folders import finished_runs, name_in, resolve_run
from posegen.tracking.report.formats import csv_text, latex, markdown
from posegen.tracking.report.run_directory import RunDirectory
from posegen.tracking.report.tables import LEGEND, table_blocks, table_text


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="posegen show",
        description="Prints a finished run's table again; without a name, of the run that ended last.",
    )
    made.add_argument("run", nargs="?", metavar="RUN", help="a run directory, or the name of one in the outputs folder")
    form = made.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="summary.json, all that the run found")
    form.add_argument("--markdown", action="store_true", help="tables for a page")
    form.add_argument("--latex", action="store_true", help="tables for a paper (booktabs)")
    form.add_argument("--csv", action="store_true", help="every number with its interval, one a line")
    made.add_argument("--outputs", type=Path, default=Path("outputs"), help="the folder of runs (default: outputs)")
    return made


def chosen_run(word: str | None, outputs: Path) -> Path:
    """The run of that name, or the one that ended last. Raises ConfigError where there is none."""
    if word is not None:
        return resolve_run(word, outputs)
    runs = finished_runs(outputs)
    if not runs:
        raise ConfigError("no finished run to show", where=outputs, next_command="posegen run   # makes one")
    return runs[-1]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status. Raises PosegenError."""
    options = parser().parse_args(argv)
    path = chosen_run(options.run, options.outputs)
    run, name = RunDirectory(path), name_in(options.outputs, path)
    if run.summary_problem is not None:
        raise DataError(str(run.summary_problem), where=path, next_command=f"posegen run run.name={name}")
    summary = run.summary
    if options.json:
        sys.stdout.write(json.dumps(summary, indent=1) + "\n")
    elif options.csv:
        sys.stdout.write(csv_text([summary]))
    elif options.markdown:
        sys.stdout.write(markdown(table_blocks(summary)) + "\n" + LEGEND.replace("\n", "  \n") + "\n")
    elif options.latex:
        sys.stdout.write(latex(table_blocks(summary)))
    else:
        report = path / "report.html"
        lines = [f"run {run.name}", "", table_text(summary), ""]
        lines += [f"report  {report}"] if report.is_file() else []
        lines += [f"numbers {path / 'summary.json'}", f"next:   posegen export {name} --format hf --to FOLDER"
                  "   # its pictures and labels", "        posegen compare   # with other runs"]  # fmt: skip
        sys.stdout.write("\n".join(lines) + "\n")
    return 0
