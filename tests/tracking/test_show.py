"""`posegen show` and the formats of tables: the numbers in every form are those of the summary."""

import csv
import io
import json
import re

import pytest

from posegen import cli
from posegen.experiment.stages import RunFolder
from posegen.tracking.report.formats import COLUMNS, csv_text, latex, markdown
from posegen.tracking.report.tables import Block, table_blocks

BLOCK = Block(["MPJPE (mm)", "a_b", "100 %"], [[("be|fore", ""), ("1.0", "-2.0±1.5*"), ("–", "")]], "title:")


def test_markdown_escapes_bars_and_aligns_numbers():
    assert markdown([BLOCK]).splitlines() == [
        "title:", "", "| MPJPE (mm) | a_b | 100 % |", "|:---|---:|---:|", r"| be\|fore | 1.0 -2.0±1.5* | – |",
    ]  # fmt: skip


def test_latex_escapes_and_has_a_column_for_each():
    text = latex([BLOCK])
    assert r"\begin{tabular}{lrr}" in text
    assert r"  MPJPE (mm) & a\_b & 100 \% \\" in text
    assert r"  be|fore & 1.0 -2.0$\pm$1.5* & -- \\" in text
    assert text.count("&") == 4


def test_csv_holds_every_number_of_the_summary(finished_run):
    summary = json.loads((finished_run / "summary.json").read_text())
    rows = list(csv.DictReader(io.StringIO(csv_text([summary]))))
    assert tuple(rows[0]) == COLUMNS
    found = {(r["benchmark"], r["arm"], r["metric"], r["quantity"]): float(r["value"]) for r in rows if r["value"]}
    for name, told in summary["benchmarks"].items():
        for arm, metrics in told["arms"].items():
            assert found[name, arm, "mpjpe_mm", "error"] == metrics["mpjpe_mm"]["value"]
    assert ("source-like", "before", "mpjpe_mm", "error") in found
    average = summary["average"]["posegen"]["relative_mpjpe"]["value"]
    assert found["(all)", "posegen", "relative_mpjpe", "mean relative change"] == average


def numbers(text: str) -> list[str]:
    return re.findall(r"\d+\.\d", text)


def test_show_prints_the_same_numbers_in_all_forms(finished_run, outputs, capsys):
    told = {}
    for form in ("", "--markdown", "--latex"):
        words = ["show", "quickstart-s0", "--outputs", str(outputs), *([form] if form else [])]
        assert cli.main(words) == 0
        told[form] = capsys.readouterr().out
    summary = json.loads((finished_run / "summary.json").read_text())
    before = f"{summary['benchmarks']['ski-like']['arms']['before']['mpjpe_mm']['value']:.1f}"
    assert all(before in text for text in told.values())
    assert numbers(told["--markdown"]) == numbers(told["--latex"])
    blocks = table_blocks(summary)
    assert sum(len(block.rows) for block in blocks) == told["--markdown"].count("\n| ") + 1 - len(blocks)
    assert cli.main(["show", str(finished_run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == summary


def test_without_a_name_the_last_run_is_shown(outputs, capsys):
    assert cli.main(["show", "--outputs", str(outputs)]) == 0
    assert "run elsewhere" in capsys.readouterr().out


def test_no_run_and_no_summary_are_errors_that_say_what_to_do(tmp_path, capsys):
    assert cli.main(["show", "--outputs", str(tmp_path)]) == 2
    assert "next: posegen run" in capsys.readouterr().err
    RunFolder(tmp_path / "x")
    (tmp_path / "x" / "summary.json").write_text("{")
    assert cli.main(["show", "x", "--outputs", str(tmp_path)]) == 2
    assert "posegen run run.name=x" in capsys.readouterr().err


def test_runs_may_stand_on_both_sides_of_an_option(outputs, tmp_path, capsys):
    first, second = (str(outputs / name) for name in ("quickstart-s0", "quickstart-s1"))
    assert cli.main(["compare", first, "--html", str(tmp_path / "c.html"), second, "--markdown"]) == 0
    assert "quickstart-s1" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["--markdown", "--latex"])
def test_compare_in_the_same_forms(form, outputs, tmp_path, capsys):
    names = [str(outputs / name) for name in ("quickstart-s0", "quickstart-s1")]
    page = ["--html", str(tmp_path / "c.html"), "--csv", str(tmp_path / "c.csv")]
    assert cli.main(["compare", *names, form, *page]) == 0
    text = capsys.readouterr().out
    assert "quickstart-s1" in text
    assert text.startswith("| MPJPE (mm) |" if form == "--markdown" else r"\begin{tabular}")
    rows = list(csv.DictReader((tmp_path / "c.csv").open()))
    assert {row["run"] for row in rows} == {"quickstart-s0", "quickstart-s1"}


def test_one_run_alone_is_said(outputs, tmp_path, capsys):
    assert cli.main(["compare", str(outputs / "elsewhere"), "--html", str(tmp_path / "c.html")]) == 0
    assert "posegen run seed=1" in capsys.readouterr().out
