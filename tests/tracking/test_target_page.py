"""The report's part on the target: exact numbers, pictures inside the file, and what is missing named."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posegen.tracking.report.report import build_report

TOLD = {
    "people": 37, "left_out": {"fewer than 7 joints of arms and legs seen": 4}, "hypotheses": 6, "joint_set": "coco17",
    "reprojection_sides_median": 0.0123, "elevation_deg_5_50_95": [-12.5, 8.25, 41.0],
    "distance_m_5_50_95": [2.1, 4.4, 9.3], "weight_of_best_mean": 0.52, "held_out": 9, "pictures": True,
    "reprojection": {
        "before": {"value": 9.876, "low": 9.1, "high": 10.5, "images": 29},
        "posegen": {
            "value": 7.654, "low": 7.0, "high": 8.2, "images": 29,
            "change": {"value": -22.5, "low": -30.25, "high": -14.75, "images": 29},
        },
    },
    "by_view": [
        {"name": "camera above 30°", "people": 11, "share": 0.297, "before": 12.34, "after": 8.76},
        {"name": "away from the camera", "people": 2, "share": 0.054, "before": None, "after": None},
    ],
}  # fmt: skip


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(finished_run, tmp_path / finished_run.name))
    (copy / "target").mkdir()
    for name in ("sheet.png", "failures.png"):
        Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(copy / "target" / name)
    return copy


def page(run: Path, target: dict, **more: dict) -> str:
    summary = json.loads((run / "summary.json").read_text()) | {"target": target, **more}
    (run / "summary.json").write_text(json.dumps(summary))
    return re.sub(r"\s+", " ", build_report(run).read_text())


def test_the_targets_numbers_are_told(run: Path) -> None:
    given = {"images": 1000, "rendered_to_choose": 3000, "steps": 200, "kept_step": 120}
    text = page(run, TOLD, budget={"posegen": given})
    assert 'href="#target"' in text and 'id="target"' in text
    for part in (
        "on 29 people who were held out", "9.88<small>[9.10, 10.50]</small>", "7.65<small>[7.00, 8.20]</small>",
        '<span class="better">▼ −22.5 %</span><small>[−30.2, −14.8]</small>', "37, 6 hypotheses each",
        "-12.5 / 8.25 / 41 degrees", "2.1 / 4.4 / 9.3 m", "to 1.2 % of the box", "fewer than 7 joints",
        "<th>camera above 30°</th><td>11 (30 %)</td><td>12.34</td><td>8.76</td>",
        "<th>away from the camera</th><td>2 (5 %)</td><td>–</td><td>–</td>",
        "<td>1,000</td><td>3,000</td><td>200</td><td>120</td>",
    ):  # fmt: skip
        assert part in text, part
    assert text.count("people of the target with their hypotheses") == 1
    assert text.count('alt="people on whom the estimator reprojects worst"') == 1


def test_what_is_missing_of_the_target_is_named(run: Path) -> None:
    (run / "target" / "sheet.png").write_bytes(b"none")
    (run / "target" / "failures.png").unlink()
    text = page(run, TOLD)
    assert "The picture target/sheet.png is missing" in text and "The picture target/failures.png is missing" in text
    alone = {key: value for key, value in TOLD.items() if key not in ("reprojection", "by_view")}
    assert "known by keypoints alone" in page(run, alone | {"pictures": False})
    assert "nobody was held out" in page(run, alone)


def test_changes_of_a_few_people_are_not_judged(run: Path) -> None:
    few = json.loads(json.dumps(TOLD).replace('"images": 29', '"images": 9'))
    assert '<span class="unclear">○ −22.5 %</span>' in page(run, few)


def test_a_run_without_a_target_says_nothing_of_one(run: Path) -> None:
    text = page(run, {})
    assert "#target" not in text and "held out" not in text
