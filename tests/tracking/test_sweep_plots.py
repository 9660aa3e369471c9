"""A sweep with a known answer: one parameter decides, one does nothing."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from posegen.tracking.report.sweep_plots import (
    coordinate,
    importance,
    importance_plot,
    parallel_coordinates,
    ranked,
    save_sweep_plots,
    sweep_table,
    varied,
)


def trials(count: int = 20) -> list[dict]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        rate, width = float(10 ** rng.uniform(-4, -1)), float(rng.uniform(0, 1))
        params = {"noise": {"kind": str(rng.choice(["gaussian", "sphere"]))}, "rate": rate, "width": width, "seed": 0}
        made.append({"params": params, "metrics": {"change": (math.log10(rate) + 2) ** 2}})
    return made


def test_only_what_varied_is_shown() -> None:
    assert varied(trials()) == ["noise.kind", "rate", "width"]


def test_the_best_come_first_and_the_failed_last() -> None:
    results = [{"params": {"a": i}, "metrics": {"m": m}} for i, m in enumerate([3.0, math.nan, 1.0, 2.0])]
    results.append({"params": {"a": 4}, "metrics": {}, "status": "failed"})
    assert ranked(results, "m") == [2, 3, 0, 1, 4]
    assert ranked(results, "m", lower_is_better=False)[:3] == [0, 3, 2]
    lines = sweep_table(results, "m").splitlines()
    assert lines[2].split() == ["1", "1", "2", "finished"]
    assert lines[-1].split() == ["5", "–", "4", "failed"]
    assert sweep_table(results, "m", most=2).endswith("(3 more)")
    assert sweep_table([], "m") == "the sweep has no trial yet"


def test_places_on_an_axis() -> None:
    places, ticks = coordinate([1.0, 2.0, 3.0, None])
    assert places[:3].tolist() == [0.0, 0.5, 1.0] and math.isnan(places[3])
    assert ticks == [(0.0, "1"), (0.5, "2"), (1.0, "3")]
    places, ticks = coordinate([1e-4, 1e-2, 1.0])
    np.testing.assert_allclose(places, [0, 0.5, 1], atol=1e-12)
    assert ticks[1][1] == "0.01"
    places, ticks = coordinate(["b", "a", "c", "a"])
    assert places.tolist() == [0.5, 0.0, 1.0, 0.0] and [text for _, text in ticks] == ["a", "b", "c"]


def test_the_deciding_parameter_has_the_importance() -> None:
    shares = importance(trials(30), "change")
    assert next(iter(shares)) == "rate" and shares["rate"] > 0.9
    assert sum(shares.values()) == pytest.approx(1.0)
    assert importance(trials(30), "change") == shares  # seeded
    assert importance(trials(3), "change") == {}
    assert len(importance(trials(6), "change")) == 3
    assert importance(trials(5), "change") == {}  # three parameters vary


def test_a_line_for_each_trial_that_finished() -> None:
    results = [*trials(9), {"params": {"rate": 0.1}, "metrics": {}, "status": "failed"}]
    figure = parallel_coordinates(results, "change")
    (axis,) = figure.axes
    lines = [line for line in axis.lines if len(line.get_xdata()) == 4]
    assert len(lines) == 9
    assert [label.get_text() for label in axis.get_xticklabels()] == ["noise.kind", "rate", "width", "change"]
    assert len({line.get_color() for line in lines[:-1]} - {lines[-1].get_color()}) == 8  # one is marked as the best
    heights = [line.get_ydata()[-1] for line in lines]
    assert min(heights) == 0.0 and max(heights) == 1.0
    assert lines[-1].get_ydata()[-1] == 0.0  # the best is drawn last, on top
    assert len(importance_plot(results, "change").axes[0].patches) == 3
    assert "Too few" in importance_plot(results[:2], "change").axes[0].texts[0].get_text()


def test_the_figures_are_files_in_the_folder(tmp_path: Path) -> None:
    from PIL import Image

    written = save_sweep_plots(trials(6), "change", tmp_path / "sweep")
    assert [path.name for path in written] == ["parallel_coordinates.png", "importance.png"]
    assert all(Image.open(path).size[0] > 800 for path in written)
    assert save_sweep_plots([{"params": {"a": 1}, "metrics": {}}], "change", tmp_path) == []


def test_long_names_are_broken_and_do_not_run_into_each_other() -> None:
    names = [
        "adversarial.weight_adversarial", "feedback.high_quantile", "adversarial.weight_residual", "noise", "feedback",
        "generator.camera_range", "dataset.random_share", "feedback.weight", "adversarial.weight_mean",
    ]  # fmt: skip
    results = [
        {"params": {name: float(i) for name in names}, "metrics": {"mean_relative_improvement": i}} for i in range(4)
    ]
    figure = parallel_coordinates(results, "mean_relative_improvement")
    figure.canvas.draw()
    labels = figure.axes[0].get_xticklabels()
    assert [label.get_text().replace("\n", "") for label in labels] == [*names, "mean_relative_improvement"]
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
