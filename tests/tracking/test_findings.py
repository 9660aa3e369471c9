"""The words and tables of a run: exact numbers, and no more confidence than the intervals give."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from posegen.config import compose
from posegen.tracking.report.findings import (
    KEEPING,
    Estimate,
    Rivalry,
    average_change,
    direction,
    finding_sentence,
    kept_sentence,
    rival_sentence,
    rivalries,
    signed,
    unmoved_sentence,
)
from posegen.tracking.report.run_directory import RunDirectory
from posegen.tracking.report.tables import WIDTH, table_text


def cell(value: float, half: float = 1.0) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def summary_of(changes: dict[str, float], average: tuple[float, float], half: float = 1.0) -> dict[str, Any]:
    """Two arms, `before` at 100 mm; `changes` of posegen by benchmark in mm."""
    benchmarks = {
        name: {
            "protocol": f"{name}: the rules",
            "images": 10,
            "arms": {"before": {"mpjpe_mm": cell(100.0)}, "posegen": {"mpjpe_mm": cell(100.0 + change)}},
            "difference": {"posegen": {"mpjpe_mm": cell(change, half)}},
        }
        for name, change in changes.items()
    }
    value, half_average = average
    return {
        "run": "r",
        "arms": ["before", "posegen"],
        "metrics": ["mpjpe_mm"],
        "benchmarks": benchmarks,
        "average": {"posegen": {"relative_mpjpe": cell(value, half_average)}},
    }


def run_of(summary: dict[str, Any], tmp_path: Path) -> RunDirectory:
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    return RunDirectory(tmp_path)


def test_the_direction_is_of_the_error_not_of_the_number() -> None:
    assert direction("mpjpe_mm", Estimate(-5, -6, -4)) == "better"
    assert direction("mpjpe_mm", Estimate(5, 4, 6)) == "worse"
    assert direction("pck_150", Estimate(5, 4, 6)) == "better"
    assert direction("auc", Estimate(-5, -6, -4)) == "worse"
    assert direction("pck_150", Estimate(5, -1, 11)) == "unclear"


def test_numbers_that_are_none_are_no_estimates() -> None:
    assert all(Estimate.of(none) is None for none in (None, {}, {"value": None}, {"value": math.nan}))
    assert Estimate.of({"value": 3}) == Estimate(3.0, 3.0, 3.0)
    assert signed(-12.34) == "−12.3" and signed(0.02) == "0.0" and signed(4) == "+4.0"


def test_a_clear_gain_is_told_with_its_interval(tmp_path: Path) -> None:
    run = run_of(summary_of({"a": -10.0, "b": -20.0}, (-0.15, 0.02)), tmp_path)
    assert finding_sentence(run).replace("\N{NO-BREAK SPACE}", " ") == (
        "Fine-tuning on PoseGen images lowered the error (MPJPE) by 15.0 % [13.0, 17.0] on average over two "
        "benchmarks, clearly better on each."
    )


def test_a_loss_and_an_unclear_result_are_told_as_such(tmp_path: Path) -> None:
    mixed = finding_sentence(run_of(summary_of({"a": 8.0, "b": -6.0, "c": 0.5}, (0.01, 0.03)), tmp_path))
    assert "made no clear difference: MPJPE changed by +1.0 % [−2.0, +4.0]" in mixed
    assert "clearly better on one, clearly worse on one and unclear on one" in mixed
    worse = finding_sentence(run_of(summary_of({"a": 8.0}, (0.08, 0.01)), tmp_path))
    assert "raised the error (MPJPE) by 8.0 %" in worse and "one benchmark, clearly worse on each" in worse
    assert "has not come to a result" in finding_sentence(run_of({}, tmp_path))


def test_baselines_are_named_best_first_and_one_training_settles_nothing(tmp_path: Path) -> None:
    run = run_of(summary_of({"a": -1.0}, (-0.01, 0.001)), tmp_path)
    rivals = [
        Rivalry("random", Estimate(-4.0, -5.0, -3.0)),
        Rivalry("mocap", Estimate(6.0, 5.0, 7.0)),
        Rivalry("no_feedback", Estimate(0.5, -1.0, 2.0)),
    ]
    assert rival_sentence(run, rivals) == (
        "PoseGen's error against that of the baselines at equal budget: mocap (+6.0 %), no feedback (+0.5 %) and "
        "random (−4.0 %). No difference between them is settled: one training each; needs at least 5 seeds."
    )


def test_rivalries_are_paired_on_the_same_images(finished_run: Path) -> None:
    run = RunDirectory(finished_run)
    rivals = {rival.baseline: rival.difference for rival in rivalries(run)}
    assert list(rivals) == ["random", "mocap", "mined_random", "no_feedback"]
    expected = [
        100 * (m.per_image["mpjpe_mm"].mean() / b.per_image["mpjpe_mm"].mean() - 1)
        for b, m in run.paired("mocap", "posegen").values()
    ]
    assert rivals["mocap"].value == pytest.approx(sum(expected) / 4)
    assert rivals["mocap"].low < rivals["mocap"].value < rivals["mocap"].high < 0


def test_the_average_is_a_percentage_of_the_summarys_fraction() -> None:
    assert average_change(summary_of({}, (-0.125, 0.0)), "posegen") == Estimate(-12.5, -12.5, -12.5)


def test_the_table_holds_the_numbers_and_marks_them() -> None:
    text = table_text(summary_of({"ski-like": -10.0, "agora-like": 7.5, "3dpw-like": 0.4}, (-0.02, 0.01)))
    line = next(line for line in text.splitlines() if line.startswith("PoseGen"))
    assert line.split() == [
        "PoseGen",
        "90.0",
        "-10.0±1.0*",
        "107.5",
        "+7.5±1.0!",
        "100.4",
        "+0.4±1.0",
        "-2.0±1.0",
        "%*",
    ]
    assert "100.0 →  90.0*" in text and "100.0 → 107.5!" in text


def test_what_was_forgotten_is_told_and_shown(finished_run: Path) -> None:
    run = RunDirectory(finished_run)
    assert kept_sentence(run) == "What the estimator knew before: source-like 60.0 → 68.0 mm (clearly worse)."
    run.summary["config"]["finetune"] = {"keep": "none"}
    assert kept_sentence(run).endswith(
        f" More of it is kept by {KEEPING} and more source rows (dataset.source_images)."
    )
    run.summary["config"]["finetune"] = {"keep": "distill"}
    assert kept_sentence(run).endswith("(clearly worse).")
    assert compose(KEEPING.split()).finetune.keep_weight == 15
    block = table_text(run.summary).split("watched beside them, not in the average:\n")[1].splitlines()
    assert block[0].split() == ["MPJPE", "(mm)", "source-like"]
    assert block[2].split() == ["before", "60.0"] and block[3].split()[-2:] == ["68.0", "+8.0±2.0!"]


def test_an_arm_that_nothing_moved_is_named(finished_run: Path) -> None:
    run = RunDirectory(finished_run)
    assert unmoved_sentence(run) == ""  # no guard
    run.summary["budget"] = {"random": {"steps": 200, "kept_step": 0}, "posegen": {"steps": 200, "kept_step": 40}}
    assert unmoved_sentence(run).startswith("Fine-tuning moved nothing for random: at every check held-out rows")
    assert "finetune.learning_rate" in unmoved_sentence(run)


def test_where_nothing_is_watched_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(summary_of({"a": -5.0}, (-0.05, 0.01))))
    run = RunDirectory(tmp_path)
    assert kept_sentence(run) == "" and "watched" not in table_text(run.summary)


def test_the_table_is_aligned_and_fits_the_terminal(finished_run: Path) -> None:
    summary = RunDirectory(finished_run).summary
    more = {f"{name}-again": entry for name, entry in summary["benchmarks"].items()}
    text = table_text({**summary, "benchmarks": {**summary["benchmarks"], **more}})
    assert max(map(len, text.splitlines())) <= WIDTH
    block = text.split("\n\n")[0].splitlines()
    header, lines = block[0], block[2:]
    assert [line.split()[0] for line in lines] == ["before", "random", "mocap", "mined", "no", "PoseGen"]
    end = header.index("ski-like") + len("ski-like")
    assert all(line[end - 1] in "*! " for line in lines[1:])  # marks stand under each other
    value = summary["benchmarks"]["ski-like"]["arms"]["posegen"]["mpjpe_mm"]["value"]
    assert f" {value:.1f} " in lines[-1]


def test_a_summary_without_results_has_no_table() -> None:
    assert table_text({}) == "no result yet: the summary holds no benchmark"
