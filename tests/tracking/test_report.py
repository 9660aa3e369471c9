"""The report holds the run's exact numbers, asks nothing of the network, and survives missing and damaged parts."""

from __future__ import annotations

import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from posegen.tracking.report.breakdowns import clip_of
from posegen.tracking.report.report import build_report
from posegen.tracking.report.run_directory import Missing, RunDirectory, read_curves, viewpoint
from posegen.tracking.report.scalars import curve_keys, scalar_name
from posegen.tracking.report.split_page import split_table
from posegen.tracking.report.style import arm_look

_VOID = {"meta", "br", "img", "path", "use", "rect", "circle", "line", "link", "input", "hr", "stop"}


class Page(HTMLParser):
    """Collects what a test asks for, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in _VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data"):
                self.sources.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag in _VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def report(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    copy = Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("report") / finished_run.name))
    text = build_report(copy).read_text()
    return text, Page(text)


def test_the_report_is_whole_and_asks_nothing_of_the_network(report: tuple[str, Page]) -> None:
    text, page = report
    assert not page.open and not page.wrong
    assert page.sources and all(source.startswith(("data:image/", "#")) for source in page.sources)
    assert not re.search(r"@import|url\((?!#)|<script|<link|<iframe", text)
    outside = set(re.findall(r"https?://[^\"'\s<]+", text))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert len(page.ids) == len(set(page.ids))
    anchors = [source[1:] for source in page.sources if source.startswith("#")]
    assert set(anchors) <= set(page.ids)


def test_the_report_holds_the_exact_numbers(report: tuple[str, Page], finished_run: Path) -> None:
    words = re.sub(r"\s+", " ", " ".join(report[1].text))
    summary = json.loads((finished_run / "summary.json").read_text())
    for by_arm in summary["benchmarks"].values():
        assert by_arm["protocol"] in words
        for arm, metrics in by_arm["arms"].items():
            for metric, cell in metrics.items():
                assert f" {cell['value']:.1f} " in words, (arm, metric)
        low, high = (by_arm["difference"]["posegen"]["mpjpe_mm"][end] for end in ("low", "high"))
        assert f"[{low:+.1f}, {high:+.1f}]".replace("-", "−") in words
    average = summary["average"]["posegen"]["relative_mpjpe"]["value"]
    assert f"▼ −{abs(100 * average):.1f} %" in words
    assert f"lowered the error (MPJPE) by {abs(100 * average):.1f} %" in words
    for fact in (
        summary["git_commit"],
        "2.60.0",
        "cartwheel, backflip, spinkick",
        "5 min 00 s in all",
        "seed=0",
        "−20° to 20°",
        "31.25",
    ):
        assert fact in words


def test_an_arm_that_got_worse_is_marked_so(report: tuple[str, Page], finished_run: Path) -> None:
    text, _ = report
    cell = json.loads((finished_run / "summary.json").read_text())["benchmarks"]["3dpw-like"]["difference"]["mocap"]
    assert cell["mpjpe_mm"]["low"] > 0
    assert f'<span class="worse">▲ +{cell["mpjpe_mm"]["value"]:.1f}</span>' in text
    # PCK fell, which is worse although the number went down.
    assert f'<span class="worse">▲ −{abs(cell["pck_150"]["value"]):.1f}</span>' in text


def test_the_gallery_shows_what_was_fixed_and_what_was_not(report: tuple[str, Page], finished_run: Path) -> None:
    text, page = report
    gallery = RunDirectory(finished_run).gallery
    assert not isinstance(gallery, Missing)
    fixed, failed = gallery.most_fixed(), gallery.not_fixed()
    words = " ".join(page.text)
    assert f"Fixed: {len(fixed)} of 12" in words and f"Not fixed: {len(failed)} of 12" in words
    for index in (fixed[0], failed[0]):
        change = f"{gallery.error_before_mm[index]:.0f} mm → {gallery.error_after_mm[index]:.0f} mm"
        assert f"{gallery.benchmark[index]} · {change}" in words
    pictures = 2 * (min(len(fixed), 9) + min(len(failed), 9)) + 5 * 14
    assert text.count('<img src="data:image/jpeg') == pictures


def test_the_samples_are_those_of_the_dataset_in_order_of_hardness(finished_run: Path) -> None:
    import pyarrow.parquet as pq

    samples = RunDirectory(finished_run).samples("posegen", 5)
    assert not isinstance(samples, Missing)
    parts = sorted((finished_run / "dataset" / "posegen").glob("part-*.parquet"))
    assert len(parts) > 1
    tables = [pq.read_table(part, columns=["row_id", "error_at_birth_mm", "image"]) for part in parts]
    errors = {row: e for t in tables for row, e in zip(t["row_id"].to_pylist(), t["error_at_birth_mm"].to_pylist())}
    ranked = sorted(errors, key=errors.__getitem__)
    assert samples.row_id.tolist() == [ranked[round(i * 23 / 4)] for i in range(5)]
    assert samples.error_at_birth_mm.tolist() == [errors[row] for row in samples.row_id.tolist()]
    first = int(samples.row_id[0])
    table = next(t for t in tables if first in t["row_id"].to_pylist())
    image = table["image"].combine_chunks().to_numpy_ndarray()[table["row_id"].to_pylist().index(first)]
    np.testing.assert_array_equal(samples.images[0], image.transpose(1, 2, 0))


def test_the_viewpoint_of_a_row_is_that_of_its_camera() -> None:
    import torch

    from posegen.body.cameras import look_at_camera

    azimuth, elevation = torch.tensor([0.3, -2.0, 3.0]), torch.tensor([0.1, -0.4, 0.9])
    transl = torch.tensor([[1.0, 0.0, -2.0]]).expand(3, 3)
    camera = look_at_camera(azimuth, elevation, torch.tensor(3.0), target_m=transl)
    pose = torch.zeros(3, 24, 3)
    arrays = [t.numpy() for t in (pose, camera.R, camera.t, transl)]
    np.testing.assert_allclose(viewpoint(*arrays), [azimuth, elevation], atol=1e-5)
    pose[:, 0, 1] = 0.5  # the person turns to its left by 0.5: the camera is now 0.5 further to its right
    turned, _ = viewpoint(pose.numpy(), *arrays[1:])
    np.testing.assert_allclose(np.cos(turned - (azimuth.numpy() - 0.5)), 1.0, atol=1e-6)


def test_parts_that_are_missing_are_named_and_the_report_built(run_copy: Path) -> None:
    said_of = {
        "evaluation/gallery.npz": "The gallery is missing: evaluation/gallery.npz was not written",
        "evaluation/before": "The breakdown of errors is missing",
        "dataset/mocap": "The dataset of mocap is missing: dataset/mocap holds no part-*.parquet",
        "generate": "The curves of generate are missing: generate/<arm>/history.jsonl is absent",
        "finetune": "The curves of finetune are missing",
    }
    for name in said_of:
        target = run_copy / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    page = Page(build_report(run_copy).read_text())
    words = re.sub(r"\s+", " ", " ".join(page.text))
    for said in said_of.values():
        assert said in words
    assert "lowered the error" in words
    assert not page.open and not page.wrong


def test_without_a_summary_the_rest_is_shown(run_copy: Path) -> None:
    (run_copy / "summary.json").unlink()
    words = re.sub(r"\s+", " ", " ".join(Page(build_report(run_copy).read_text()).text))
    assert "The summary is missing: summary.json was not written" in words
    assert "This run has not come to a result" in words and "Fixed: " in words and "median " in words


def test_an_empty_directory_has_a_report_too(tmp_path: Path) -> None:
    text = " ".join(Page(build_report(tmp_path).read_text()).text)
    assert "This run has not come to a result" in text
    assert "The table is missing" in text


def test_damaged_files_are_named(run_copy: Path) -> None:
    for name in ("evaluation/posegen/ski-like.parquet", "evaluation/gallery.npz", "summary.json"):
        path = run_copy / name
        path.write_bytes(path.read_bytes()[:100])
    part = next((run_copy / "dataset" / "random").glob("part-*.parquet"))
    part.write_bytes(part.read_bytes()[:500])
    text = html.unescape(build_report(run_copy).read_text())
    assert "summary.json is damaged" in text
    assert "The gallery is missing: the gallery is cut short or damaged" in text
    assert "evaluation/posegen/ski-like.parquet: cannot read a benchmark result" in text
    assert "The dataset of random is missing: it cannot be read" in text


def test_names_from_the_run_are_escaped(run_copy: Path) -> None:
    summary = json.loads((run_copy / "summary.json").read_text())
    summary["run"], summary["versions"]["<b>"] = "<script>alert(1)</script>", "&"
    (run_copy / "summary.json").write_text(json.dumps(summary))
    text = build_report(run_copy).read_text()
    assert "<script" not in text and "&lt;script&gt;" in text and "&lt;b&gt;" in text


def test_errors_by_clip_put_the_pieces_of_a_clip_together(report: tuple[str, Page]) -> None:
    words = " ".join(report[1].text)
    assert "ski-like: cartwheel  (20)" in words and "3dhp-like: kick  (60)" in words
    assert clip_of("kick/12") == "kick" and clip_of("downtown/a") == "downtown/a" and clip_of("7") == "7"


def test_panels_are_chosen_and_named() -> None:
    rows = [
        {
            "step": s,
            "loss_limits": s,
            "error_mm": s,
            "meter_nearest_mm": s,
            "learning_rate": s,
            "gradient_norm": s,
            "constant": 1,
        }
        for s in range(3)
    ]
    assert curve_keys({"posegen": rows}, plausibility=False) == ["error_mm", "loss_limits"]
    assert curve_keys({"posegen": rows}, plausibility=True) == ["meter_nearest_mm"]
    assert scalar_name("loss_limits") == "loss: limits" and scalar_name("reach_px") == "reach (px)"
    assert scalar_name("proposal_nearest_mm") == "distance to the nearest real pose (mm), before training"


def test_a_split_is_a_row_a_part() -> None:
    pool = {"clips": ["walk"], "camera": {"azimuth_deg": [[-60, 60], [-60, 60], [90, 120]], "elevation_deg": [-5, 5]}}
    (row, test) = split_table({"parts": {"pool": pool}, "tests": {"ski-like": {"clips": ["kick", "roll"]}}})
    seen = {key: text.replace("\N{NO-BREAK SPACE}", " ") for key, text in row.items()}
    assert seen["azimuth"] == "−60° to 60° or 90° to 120°" and seen["elevation"] == "−5° to 5°"
    assert (test["part"], test["clips"], test["azimuth"]) == ("test: ski-like", "kick, roll", "")
    ski = {"clips": ["kick"], "windows": "even", "subjects": "test", "background": {"pool": "test", "kinds": {}}}
    kin = {"windows": "odd", "subjects": "target", "background": {"pool": "target"}}
    (_, target) = split_table({"tests": {"ski-like": ski}, "targets": {"ski-like": kin}})
    assert (target["part"], target["clips"]) == ("target: ski-like", "kick (odd half seconds)")
    assert (target["subjects"], target["backgrounds"]) == ("target", "target")


def test_rounds_and_source_rows_are_no_arms(run_copy: Path) -> None:
    (run_copy / "summary.json").unlink()
    shutil.copytree(run_copy / "finetune" / "posegen", run_copy / "finetune" / "posegen-round2")
    shutil.copytree(run_copy / "dataset" / "random", run_copy / "dataset" / "source")
    run = RunDirectory(run_copy)
    assert run.arms == ["before", "random", "mocap", "mined_random", "no_feedback", "posegen"]
    assert "posegen-round2" in run.histories("finetune") and "source" in run.births()
    assert arm_look("posegen-round2").label == "PoseGen, round 2"


def test_a_history_cut_short_is_read_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(
        '{"step": 0, "loss": {"total": 1.5}, "note": "x"}\n{"step": 4, "loss": {"total": 1.0}}\n{"step": 5, "lo'
    )
    assert read_curves(path, pytest.fail) == [{"step": 0.0, "loss/total": 1.5}, {"step": 4.0, "loss/total": 1.0}]
    assert read_curves(tmp_path / "none.jsonl", pytest.fail) == []


def test_an_atlas_of_the_run_is_linked_where_there_is_one(run_copy: Path) -> None:
    without = build_report(run_copy).read_text()
    assert "Failure atlas" not in without
    assert f"posegen atlas run={run_copy.name}" in without
    (run_copy / "atlas").mkdir()
    (run_copy / "atlas" / "atlas.html").write_text("<html></html>")
    assert '<a href="atlas/atlas.html">Failure atlas</a>' in build_report(run_copy).read_text()
