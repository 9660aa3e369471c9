"""`posegen compare [RUN ...]`: runs side by side in the terminal, as a page and as JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from posegen.errors import ConfigError, PosegenError
from posegen.tracking.compare.compare import compare
from posegen.tracking.compare.page import comparison_text
from posegen.tracking.compare.runs import resolve_run, runs_in


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
    made.add_argument("--outputs", type=Path, default=Path("outputs"), help="the folder of runs (default: outputs)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 with the reason on standard error."""
    options = parser().parse_args(argv)
    try:
        paths = [resolve_run(word, options.outputs) for word in options.runs] or runs_in(options.outputs)
        if not paths:
            raise ConfigError("no finished run to compare", where=options.outputs, next_command="posegen run")
        paths = list(dict.fromkeys(paths))
        page = options.html or options.outputs / "compare.html"
        comparison = compare(paths, page, options.json)
    except PosegenError as error:
        sys.stderr.write(f"posegen compare: {error}\n")
        return 2
    lines = [comparison_text(comparison), "", f"page: {page}"]
    if options.json:
        lines.append(f"json: {options.json}")
    lines.append("next: posegen ui   # the same runs in MLflow")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0
