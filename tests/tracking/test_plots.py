"""Figures are checked by what they draw: the numbers, the places, and what the SVG may contain."""

from __future__ import annotations

import io
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from posegen.arms.registry import BEFORE, names
from posegen.tracking.report import plots
from posegen.tracking.report.style import BETTER, INK, arm_look, to_png, to_svg


def test_errors_are_averaged_in_the_bin_of_their_viewpoint() -> None:
    azimuth = np.radians([0.0, 10.0, 200.0, -160.0, 180.0])
    elevation = np.radians([0.0, 5.0, 60.0, 60.0, -20.0])
    mean, count = plots.binned_mean([10.0, 20.0, 30.0, 50.0, 7.0], azimuth, elevation)
    assert mean.shape == (5, 12)
    assert mean[2, 6] == 15.0 and count[2, 6] == 2  # 0..30 degrees, level
    assert mean[4, 0] == 40.0 and count[4, 0] == 2  # 200 is -160
    assert mean[1, 0] == 7.0  # 180 is -180
    assert count.sum() == 5 and np.isnan(mean[0, 0])


def test_the_viewpoint_figure_prints_before_after_and_change() -> None:
    azimuth, elevation = np.radians([5.0, -5.0]), np.radians([0.0, 0.0])
    figure = plots.error_by_viewpoint(azimuth, elevation, [100.0, 80.0], [90.0, 95.0])
    texts = [[text.get_text() for text in axis.texts if text.get_text() != "–"] for axis in figure.axes]
    assert texts == [["80", "100"], ["95", "90"], ["+15", "-10"]]


def test_the_dumbbells_are_ordered_by_difficulty_and_coloured_by_direction() -> None:
    figure = plots.dumbbells(["easy", "hard_one"], [50.0, 120.0], [60.0, 90.0], [4, 7])
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["easy  (4)", "hard one  (7)"]
    assert [line.get_color() for line in axis.lines] == ["#d55e00", BETTER]
    np.testing.assert_allclose([line.get_xdata() for line in axis.lines], [[50, 60], [120, 90]])


def test_what_did_not_change_is_neither_better_nor_worse() -> None:
    (axis,) = plots.dumbbells(["a", "b"], [50.0, 60.0], [50.0, 55.0]).axes
    assert axis.get_legend_handles_labels()[1] == ["before", "after, better", "after, the same"]


def test_dots_stand_at_their_values_with_their_intervals() -> None:
    cell = {"value": 100.0, "low": 90.0, "high": 115.0}
    figure = plots.benchmark_dots(
        {"ski-like": {"before": cell, "posegen": {**cell, "value": 91.0}}}, ["before", "posegen"]
    )
    (axis,) = figure.axes
    assert axis.get_title(loc="left") == "ski-like"
    assert [tuple(c.get_offsets()[0]) for c in axis.collections] == [(100.0, 0.0), (91.0, 1.0)]
    np.testing.assert_allclose(axis.lines[0].get_xdata(), [90, 115])


def test_the_histograms_name_their_medians() -> None:
    figure = plots.error_at_birth({"random": [10.0, 20.0, 60.0], "posegen": [100.0, math.nan, 120.0]})
    assert [axis.texts[0].get_text() for axis in figure.axes] == ["median 20 mm", "median 110 mm"]


def test_curves_draw_a_line_an_arm_and_smooth_long_ones() -> None:
    rows = [{"step": step, "loss": float(step % 2)} for step in range(80)]
    figure = plots.curves({"random": rows, "posegen": [{"step": 0, "other": 1.0}]}, ["loss"])
    raw, smooth = figure.axes[0].lines
    assert list(raw.get_ydata()) == [row["loss"] for row in rows]
    assert np.ptp(smooth.get_ydata()[5:-5]) < 0.3
    assert smooth.get_color() == arm_look("random").colour


def test_arms_have_colours_and_markers_of_their_own() -> None:
    looks = [arm_look(arm) for arm in (BEFORE, *names())]
    assert len({look.colour for look in looks}) == len({look.marker for look in looks}) == len(looks)
    assert arm_look("my_arm") == arm_look("my_arm") and arm_look("my_arm").label == "my_arm"


def test_an_inline_svg_takes_the_pages_colours_and_asks_for_nothing() -> None:
    svg = to_svg(plots.bars(["a & b"], [1.0], "seconds"), "time <1>", 'the "time"')
    root = ET.fromstring(svg)  # well-formed
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == 'the "time"'
    assert "var(--muted)" in svg and INK not in svg
    assert "DOCTYPE" not in svg and "metadata" not in svg and "DejaVu" not in svg
    hrefs = re.findall(r'href="([^"]*)"', svg)
    assert all(href.startswith("#time--1-") for href in hrefs)
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(ids) == len(set(ids)) and all(name.startswith("time--1-") for name in ids)
    for reference in re.findall(r"url\(#([^)]+)\)", svg):
        assert reference in ids


def test_a_png_is_dark_on_white() -> None:
    picture = np.asarray(Image.open(io.BytesIO(to_png(plots.bars(["a"], [1.0], "seconds")))).convert("RGB"))
    assert tuple(picture[0, 0]) == (255, 255, 255)
    assert picture.min() < 120


@pytest.mark.parametrize("count", [0, 1])
def test_figures_of_nothing_are_still_figures(count: int) -> None:
    for figure in (
        plots.error_at_birth({"random": [1.0] * count}),
        plots.error_by_viewpoint([0.0] * count, [0.0] * count, [1.0] * count, [1.0] * count),
        plots.curves({"random": [{"step": 0, "loss": 1.0}] * count}, ["loss"]),
    ):
        assert to_svg(figure, "empty", "nothing").startswith("<svg")
