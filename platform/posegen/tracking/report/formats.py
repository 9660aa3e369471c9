"""Tables for papers, pages and machines: the same blocks as in the terminal as Markdown and LaTeX, numbers as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from posegen.tracking.report.tables import Block

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "→": r"$\to$", "−": "$-$", "–": "--",
}  # fmt: skip
# Of one number: where it comes from, its value, and its interval.
COLUMNS = ("run", "seed", "benchmark", "arm", "metric", "quantity", "value", "low", "high")


def markdown(blocks: Sequence[Block]) -> str:
    """Tables as GitHub and mkdocs read them."""
    return "\n".join(map(_markdown, blocks))


def _markdown(block: Block) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    rule = "|" + "|".join([":---", *["---:"] * (len(block.header) - 1)]) + "|"
    told = [f"{block.title}\n"] if block.title else []
    return "\n".join([*told, line(block.header), rule, *map(line, block.cells())]) + "\n"


def latex(blocks: Sequence[Block]) -> str:
    """A `tabular` for each table, with the rules of the package booktabs."""
    return "\n".join(map(_latex, blocks))


def _latex(block: Block) -> str:
    def line(cells: Sequence[str]) -> str:
        return "  " + " & ".join("".join(_LATEX.get(letter, letter) for letter in cell) for cell in cells) + r" \\"

    told = [f"% {block.title}"] if block.title else []
    lines = [*told, r"\begin{tabular}{l" + "r" * (len(block.header) - 1) + "}", r"  \toprule", line(block.header),
             r"  \midrule", *map(line, block.cells()), r"  \bottomrule", r"\end{tabular}"]  # fmt: skip
    return "\n".join(lines) + "\n"


def csv_text(summaries: Iterable[Mapping[str, Any]]) -> str:
    """Every number of some runs, one a line: errors with their intervals, and the differences against `before`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for summary in summaries:
        writer.writerows(_numbers(summary))
    return out.getvalue()


def _numbers(summary: Mapping[str, Any]) -> Iterator[list[Any]]:
    start = [summary.get("run"), summary.get("seed")]
    for part in ("benchmarks", "watched"):
        for benchmark, told in (summary.get(part) or {}).items():
            for quantity, by_arm in (("error", told.get("arms")), ("change against before", told.get("difference"))):
                for arm, metrics in (by_arm or {}).items():
                    for metric, cell in metrics.items():
                        yield [*start, benchmark, arm, metric, quantity, *_cell(cell)]
    for arm, told in (summary.get("average") or {}).items():
        for metric, cell in told.items():
            yield [*start, "(all)", arm, metric, "mean relative change", *_cell(cell)]


def _cell(cell: Mapping[str, Any] | None) -> list[Any]:
    return [(cell or {}).get(part) for part in ("value", "low", "high")]
