"""Runs side by side: paired where the images agree, pooled where only the seed differs."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from posegen.benchmarks.measure.result import BenchmarkResult
from posegen.errors import DataError
from posegen.tracking.compare.command import main
from posegen.tracking.compare.compare import Spread, compare
from posegen.tracking.compare.page import comparison_text, run_changes
from posegen.tracking.compare.settings import setting_names
from posegen.tracking.report.run_directory import RunDirectory


def mean_mpjpe(run: Path, arm: str, benchmark: str) -> float:
    return float(BenchmarkResult.load(run / "evaluation" / arm / f"{benchmark}.parquet").per_image["mpjpe_mm"].mean())


def test_runs_of_the_same_images_are_paired(outputs: Path) -> None:
    runs = [outputs / "quickstart-s0", outputs / "quickstart-s1", outputs / "elsewhere"]
    comparison = compare(runs)
    first, second = comparison.paired
    assert (first.reference, first.run) == ("quickstart-s0", "quickstart-s1")
    for benchmark, difference in first.difference_mm.items():
        expected = mean_mpjpe(runs[1], "posegen", benchmark) - mean_mpjpe(runs[0], "posegen", benchmark)
        assert difference.value == pytest.approx(expected)
        assert 0 < difference.low < difference.value < difference.high  # 0.86 is worse than 0.82 of the error
    assert not first.unpaired
    assert second.difference_mm == {}
    assert set(second.unpaired.values()) == {"the test images differ"} and second.relative_percent is None


def test_seeds_of_one_experiment_are_pooled(outputs: Path) -> None:
    comparison = compare([outputs / "quickstart-s0", outputs / "quickstart-s1"])
    (group,) = comparison.seeds
    assert group.seeds == [0, 1]
    values = [
        100 * json.loads((outputs / name / "summary.json").read_text())["average"]["posegen"]["relative_mpjpe"]["value"]
        for name in group.runs
    ]
    assert group.change["posegen"].mean == pytest.approx(statistics.mean(values))
    assert group.change["posegen"].sd == pytest.approx(statistics.stdev(values))
    assert group.mpjpe_mm["ski-like"]["before"].sd == 0.0
    assert set(group.judged) == {"before", "random", "mocap", "mined_random", "no_feedback"}
    assert group.judged["random"].trainings == 2 and not group.judged["random"].clear
    expected = [
        statistics.mean(mean_mpjpe(outputs / run, arm, "ski-like") for run in group.runs)
        for arm in ("mocap", "posegen")
    ]
    assert (group.judged["mocap"].value < 0) == (expected[1] < expected[0])
    assert comparison.config_differences == {"seed": ["0", "1"]}


def test_means_over_seeds_are_shown_for_every_arm_in_both_measures_and_who_is_turned(
    outputs: Path, tmp_path: Path
) -> None:
    runs = [outputs / "quickstart-s0", outputs / "quickstart-s1"]
    comparison = compare(runs, out=tmp_path / "page.html")
    (group,) = comparison.seeds
    values = [mean_mpjpe(run, "posegen", "ski-like") for run in runs]
    mean, sd = statistics.mean(values), statistics.stdev(values)
    line = f"{mean:.1f} ± {sd:.1f} / {0.62 * mean:.1f}"
    before = mean_mpjpe(runs[0], "before", "ski-like")
    turned = 100 * statistics.mean(
        float((BenchmarkResult.load(run / "evaluation/posegen/ski-like.parquet").per_image["mpjpe_mm"] > 250).mean())
        for run in runs
    )
    assert turned > 1 and group.wrong_way_round["ski-like"]["posegen"].mean == pytest.approx(turned)
    page, said = (tmp_path / "page.html").read_text(), comparison_text(comparison)
    for text in (page, said):
        assert line in text and f"{before:.1f} / {0.62 * before:.1f}" in text
        assert "wrong way round (%)" in text and f"{turned:.1f}" in text.partition("wrong way round")[2]
    assert page.count(">average change<") == 2  # of the runs and of the seeds


def test_the_page_of_seeds_alone_leads_with_what_they_say_together(outputs: Path, tmp_path: Path) -> None:
    runs, page = [outputs / "quickstart-s0", outputs / "quickstart-s1"], tmp_path / "page.html"
    compare(runs, out=page)
    text = page.read_text()
    assert text.count("Seeds pooled") == 1 and text.index("Seeds pooled") < text.index("paired")
    assert ">seed 1<" in text and text.count("<svg") == 1  # and no plot of chance between seeds
    compare([*runs, outputs / "elsewhere"], out=page)
    text = page.read_text()
    assert text.count("Seeds pooled") == 1 and text.index("Seeds pooled") > text.index("paired")
    assert ">seed 1<" not in text and text.count("<svg") == 2


def other_noise(outputs: Path, folder: Path, *, seed: int, method_times: float = 1.0) -> Path:
    """A copy of a run with another noise, whose method errs so many times as much."""
    run = Path(shutil.copytree(outputs / f"quickstart-s{seed}", folder / f"sphere-s{seed}"))
    summary = json.loads((run / "summary.json").read_text())
    summary["config"]["noise"]["kind"] = "sphere"
    (run / "summary.json").write_text(json.dumps(summary | {"run": run.name}))
    for file in (run / "evaluation" / "posegen").glob("*.parquet"):
        result = BenchmarkResult.load(file)
        result.per_image["mpjpe_mm"] = method_times * result.per_image["mpjpe_mm"]
        result.save(file)
    return run


def test_settings_over_seeds_are_named_by_what_differs_and_set_against_the_first(outputs: Path, tmp_path: Path) -> None:
    gaussian = [outputs / "quickstart-s0", outputs / "quickstart-s1"]
    sphere = [other_noise(outputs, tmp_path, seed=seed, method_times=0.9) for seed in (1, 0)]
    comparison = compare([*gaussian, *sphere], out=tmp_path / "page.html")
    first, other = comparison.seeds
    assert (first.setting, other.setting) == ("noise.kind=gaussian", "noise.kind=sphere")
    assert first.against_first is None and other.against_first is not None
    assert other.against_first.value == pytest.approx(-10.0)  # seed by seed, whatever the order they are named in
    assert other.against_first.low == pytest.approx(-10.0) and other.against_first.trainings == 2
    expected = 100 * (0.9 * (1 + first.changes["posegen"]["MPJPE"].value / 100) - 1)
    assert other.changes["posegen"]["MPJPE"].value == pytest.approx(expected)
    said = comparison_text(comparison)
    assert "against the first" in said and "same images" not in said  # single trainings of settings say nothing
    assert said.index("noise.kind=sphere") < said.index("2 seeds of noise.kind=gaussian") < said.index("quickstart-s0")
    assert max(map(len, said.splitlines())) <= 120
    page = (tmp_path / "page.html").read_text()
    assert "Of 2 settings, each over seeds, noise.kind=sphere changed the error" in page
    assert page.index(">Settings<") < page.index("Seeds pooled") < page.index("The runs") and "paired<" not in page
    assert ">noise.kind=sphere seed 1<" in page and page.count("<svg") == 2


def test_settings_beside_a_single_run_are_told_apart_and_the_pairs_stay(outputs: Path, tmp_path: Path) -> None:
    runs = [outputs / "quickstart-s0", outputs / "quickstart-s1", outputs / "elsewhere"]
    sphere = [other_noise(outputs, tmp_path, seed=seed) for seed in (0, 1)]
    comparison = compare([*runs, *sphere], out=tmp_path / "page.html")
    assert [group.setting for group in comparison.seeds] == ["noise.kind=gaussian", "noise.kind=sphere"]
    page = (tmp_path / "page.html").read_text()
    assert ">Settings<" in page and "paired<" in page and ">elsewhere<" in page
    assert "same images" in comparison_text(comparison)


def test_a_setting_is_named_by_few_keys_and_never_as_another_is(tmp_path: Path) -> None:
    def names(*configs: dict[str, object]) -> list[str]:
        runs = []
        for number, config in enumerate(configs):
            (tmp_path / f"run{number}").mkdir(exist_ok=True)
            (tmp_path / f"run{number}" / "summary.json").write_text(json.dumps({"config": config}))
            runs.append([RunDirectory(tmp_path / f"run{number}")])
        return setting_names(runs)

    assert names({"a": 1, "b": 2}) == [""]
    assert names({"a": 1, "seed": 0, "b": {"c": 2}}, {"a": 1, "seed": 5, "b": {"c": 3}}) == ["b.c=2", "b.c=3"]
    many = [{key: value for key in "pqrst"} for value in ("x", "y" * 60)]
    assert names(*many) == ["p=x q=x r=x and 2 more", " ".join(f"{key}={'y' * 37}..." for key in "pqr") + " and 2 more"]
    feedbacks: list[dict[str, object]] = [
        {"feedback": {"name": "band", "signal": "error", "teachers": []}},
        {"feedback": {"name": "maximise", "signal": "regret", "teachers": [{"name": "spin"}]}},
    ]
    told = ["feedback: name=band signal=error", "feedback: name=maximise signal=regret teachers=[{name: spin}]"]
    assert names(*feedbacks) == told
    assert names({"a": "z" * 50 + "1"}, {"a": "z" * 50 + "2"}) == ["run0", "run1"]  # cut, they would be the same
    assert names({"a": 1, "b": None}, {"a": 1, "b": 4}) == ["run0", "b=4"]  # nothing is set: there is nothing to say


@pytest.mark.parametrize("count", [2, 7])
def test_a_legend_of_many_long_names_is_not_cut(outputs: Path, count: int) -> None:
    comparison = compare([outputs / "quickstart-s0"])
    run = comparison.runs[0]
    runs = [replace(run, run=f"blazepose_longer-seed{number}-39672c3a") for number in range(count)]
    figure = run_changes(replace(comparison, runs=runs, seeds=[]))
    figure.canvas.draw()
    (legend,) = figure.legends
    assert len(legend.get_texts()) == count
    box, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1


def test_every_arm_is_set_against_before_in_each_measure_and_against_random(outputs: Path) -> None:
    (group,) = compare([outputs / "quickstart-s0", outputs / "quickstart-s1"]).seeds
    assert set(group.changes) == {"random", "mocap", "mined_random", "no_feedback", "posegen"}
    assert set(group.changes["random"]) == {"MPJPE", "PA-MPJPE", "PVE"}
    assert set(group.changes["mocap"]) == {"MPJPE", "PA-MPJPE", "PVE", "MPJPE against random"}
    benchmarks = ("3dpw-like", "3dhp-like", "ski-like", "agora-like")
    for first, label in (("before", "MPJPE"), ("random", "MPJPE against random")):
        relative = []
        for name in benchmarks:
            means = [
                statistics.mean(mean_mpjpe(outputs / run, arm, name) for run in group.runs) for arm in (first, "mocap")
            ]
            relative.append(100 * (means[1] / means[0] - 1))
        judged = group.changes["mocap"][label]
        assert judged.value == pytest.approx(statistics.mean(relative))
        assert judged.low < judged.value < judged.high and judged.trainings == 2


def test_what_is_watched_is_judged_apart(outputs: Path, tmp_path: Path) -> None:
    """The ski-like results as a watched set: the same change as that benchmark alone has, and none in the average."""
    runs = []
    for name in ("quickstart-s0", "quickstart-s1"):
        run = Path(shutil.copytree(outputs / name, tmp_path / name))
        for file in (run / "evaluation").glob("*/ski-like.parquet"):
            (run / "watched" / file.parent.name).mkdir(parents=True)
            file.rename(run / "watched" / file.parent.name / file.name)
        runs.append(run)
    (group,) = compare(runs).seeds
    (whole,) = compare([outputs / run.name for run in runs]).seeds
    watched = group.changes["posegen"]["ski-like, MPJPE"].value
    others = group.changes["posegen"]["MPJPE"].value
    assert whole.changes["posegen"]["MPJPE"].value == pytest.approx((3 * others + watched) / 4)


def test_another_configuration_is_no_other_seed(outputs: Path, run_copy: Path) -> None:
    summary = json.loads((run_copy / "summary.json").read_text())
    summary["config"]["noise"]["kind"] = "sphere"
    summary |= {"run": "other-noise", "seed": 7}
    (run_copy / "summary.json").write_text(json.dumps(summary))
    comparison = compare([outputs / "quickstart-s0", run_copy])
    assert comparison.seeds == []
    assert comparison.config_differences["noise.kind"] == ["gaussian", "sphere"]


def test_the_spread_of_one_value_has_no_deviation() -> None:
    assert Spread.of([1.0, 3.0]).sd == pytest.approx(2**0.5)
    assert Spread.of([2.0]).sd != Spread.of([2.0]).sd  # NaN


def test_an_unfinished_run_is_refused_by_name(outputs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only finished runs"):
        compare([outputs / "quickstart-s0", tmp_path])


def test_the_command_writes_page_json_and_table(outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    page, numbers = tmp_path / "page.html", tmp_path / "numbers.json"
    names = ["quickstart-s0", str(outputs / "quickstart-s1"), "elsewhere"]
    assert main([*names, "--outputs", str(outputs), "--html", str(page), "--json", str(numbers)]) == 0
    printed = capsys.readouterr().out
    read = json.loads(numbers.read_text())
    assert [run["run"] for run in read["runs"]] == ["quickstart-s0", "quickstart-s1", "elsewhere"]
    difference = read["paired"][0]["difference_mm"]["ski-like"]
    assert f"{difference['value']:+.1f}±" in printed and "not paired" in printed
    text = page.read_text()
    assert (
        f"○ +{difference['value']:.1f}" in text
        and "needs at least 5 seeds" in text
        and "the test images differ" in text
    )
    assert "2 seeds of quickstart" in printed and "quickstart: seeds 0, 1" in text
    assert not re.search(r"<script|<link|https?://(?!www\.w3\.org)", text)
    assert max(map(len, printed.splitlines())) <= 120


def test_without_names_all_finished_runs_are_compared(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    numbers = tmp_path / "numbers.json"
    words = ["--outputs", str(outputs), "--html", str(tmp_path / "page.html"), "--json", str(numbers)]
    assert main(words) == 0
    assert {run["run"] for run in json.loads(numbers.read_text())["runs"]} == {
        "quickstart-s0", "quickstart-s1", "elsewhere",
    }  # fmt: skip
    assert main(["no-such-run", "--outputs", str(outputs)]) == 2
    said = capsys.readouterr().err
    assert "no finished run 'no-such-run'" in said
    assert all(name in said for name in ("quickstart-s0", "quickstart-s1", "elsewhere"))
    assert main(["--outputs", str(outputs / "nowhere")]) == 2
    assert "next: posegen run" in capsys.readouterr().err


def test_the_symlink_to_the_latest_is_no_second_run(outputs: Path, capsys: pytest.CaptureFixture) -> None:
    link = outputs / "latest"
    link.symlink_to(outputs / "quickstart-s0")
    try:
        assert main(["--outputs", str(outputs), "--html", str(outputs / "c.html")]) == 0
        assert capsys.readouterr().out.count("elsewhere") >= 1
        assert "latest" not in (outputs / "c.html").read_text()
        assert main(["latest", "quickstart-s0", "--outputs", str(outputs), "--html", str(outputs / "c.html")]) == 2
        assert "not written over" in capsys.readouterr().err
        again = ["--html", str(outputs / "c.html"), "--overwrite"]
        assert main(["latest", "quickstart-s0", "--outputs", str(outputs), *again]) == 0
        assert capsys.readouterr().out.count("quickstart-s0") == 1  # one run, named twice
    finally:
        link.unlink()
        (outputs / "c.html").unlink()


def test_runs_are_compared_without_loading_torch(outputs: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom posegen.tracking.compare.compare import compare\n"
        "assert compare([Path(name) for name in sys.argv[1:]]).paired\nprint('torch' in sys.modules)"
    )
    runs = [str(outputs / name) for name in ("quickstart-s0", "quickstart-s1")]
    done = subprocess.run([sys.executable, "-c", code, *runs], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
