"""The figures of a run. Each function takes plain numbers and returns a matplotlib Figure (Agg, outside pyplot).

Errors are in millimetres, angles in radians. An azimuth of 0 sees the person's front, positive is towards the person's
left; a positive elevation looks down from above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posegen.tracking.report.style import (
    BETTER,
    GRID,
    INK,
    MUTED,
    PAPER,
    WORSE,
    arm_look,
    legend_columns,
    new_figure,
    quiet_style,
    series_colours,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AZIMUTH_EDGES_DEG = np.arange(-180, 181, 30)
WIDE_IN = 10.3  # fills the column of a page
ELEVATION_EDGES_DEG = np.array([-90, -45, -15, 15, 45, 90])


def binned_mean(
    values: ArrayLike, azimuth_rad: ArrayLike, elevation_rad: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean and count by viewpoint: two arrays (elevation bins, azimuth bins); the mean of an empty bin is NaN."""
    values = np.asarray(values, float)
    azimuth = (np.degrees(np.asarray(azimuth_rad, float)) + 180.0) % 360.0 - 180.0
    elevation = np.degrees(np.asarray(elevation_rad, float))
    edges = (ELEVATION_EDGES_DEG, AZIMUTH_EDGES_DEG)
    count, *_ = np.histogram2d(elevation, azimuth, bins=edges)
    total, *_ = np.histogram2d(elevation, azimuth, bins=edges, weights=values)
    with np.errstate(invalid="ignore"):
        return total / count, count.astype(np.int64)


def error_by_viewpoint(
    azimuth_rad: ArrayLike, elevation_rad: ArrayLike, before: ArrayLike, after: ArrayLike, unit: str = "mm"
) -> Figure:
    """Mean error of the test images by where the camera stood: before, after, and the change."""
    first, count = binned_mean(before, azimuth_rad, elevation_rad)
    second, _ = binned_mean(after, azimuth_rad, elevation_rad)
    rows = np.flatnonzero(count.any(1))
    rows = np.arange(rows.min(), rows.max() + 1) if len(rows) else np.arange(len(count))
    low, high = _limits([first, second])
    reach = float(np.nanmax(np.abs(second - first), initial=1e-9)) if count.any() else 1.0
    with quiet_style():
        figure, axes = new_figure(WIDE_IN, 0.75 + 0.42 * len(rows) * 3 + 0.9, nrows=3, sharex=True)
        panels = (
            (f"before ({unit})", first, "cividis", low, high),
            (f"after ({unit})", second, "cividis", low, high),
            (f"change ({unit}): blue is better", second - first, "RdBu_r", -reach, reach),
        )
        for axis, (title, grid, colours, bottom, top) in zip(axes[:, 0], panels, strict=True):
            _heat(axis, grid[rows], colours, bottom, top, signed=bottom < 0)
            axis.set_title(title)
            labels = [f"{ELEVATION_EDGES_DEG[r]}° to {ELEVATION_EDGES_DEG[r + 1]}°" for r in rows]
            axis.set_yticks(np.arange(len(rows)) + 0.5, labels)
        centres = (AZIMUTH_EDGES_DEG[:-1] + AZIMUTH_EDGES_DEG[1:]) // 2
        axes[-1, 0].set_xticks(np.arange(len(centres)) + 0.5, [f"{c:+d}°" for c in centres])
        axes[-1, 0].set_xlabel("azimuth of the camera (0° sees the front, ±180° the back); rows: its elevation")
    return figure


def _limits(grids: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    values = np.concatenate([grid[np.isfinite(grid)] for grid in grids])
    return (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)


def _heat(axis: Axes, grid: NDArray[np.float64], colours: str, low: float, high: float, *, signed: bool) -> None:
    mesh = axis.pcolormesh(
        np.ma.masked_invalid(grid), cmap=colours, vmin=low, vmax=max(high, low + 1e-9), linewidth=2,
        edgecolors=PAPER,
    )  # fmt: skip
    for row, column in np.ndindex(grid.shape):
        value = grid[row, column]
        if not np.isfinite(value):
            axis.text(column + 0.5, row + 0.5, "–", ha="center", va="center", color=MUTED)
            continue
        luminance = float(np.dot(mesh.to_rgba(value)[:3], (0.299, 0.587, 0.114)))
        text = f"{value:+.0f}" if signed else f"{value:.0f}"
        tone = "#101418" if luminance > 0.5 else "#fdfdfd"
        axis.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=tone, fontsize=8)
    axis.set(xlim=(0, grid.shape[1]), ylim=(0, grid.shape[0]))
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)


def dumbbells(names: Sequence[str], before: ArrayLike, after: ArrayLike, counts: Sequence[int] | None = None) -> Figure:
    """Before and after of several groups (clips, pose clusters, joints), the hardest on top."""
    first, second = np.asarray(before, float), np.asarray(after, float)
    order = np.argsort(first, kind="stable")
    with quiet_style():
        figure, axes = new_figure(7.2, 0.75 + 0.23 * len(order))
        axis = axes[0, 0]
        for y, index in enumerate(order):
            colour = BETTER if second[index] <= first[index] else WORSE
            axis.plot([first[index], second[index]], [y, y], color=colour, linewidth=2.2, alpha=0.55, zorder=2)
        look = arm_look("before")
        axis.scatter(first[order], range(len(order)), s=30, color=look.colour, label="before", zorder=3)
        last, change = second[order], second[order] - first[order]
        kinds = ((change < 0, BETTER, "better"), (change > 0, WORSE, "worse"), (change == 0, MUTED, "the same"))
        for chosen, colour, kind in kinds:
            if chosen.any():
                places = np.flatnonzero(chosen)
                axis.scatter(last[chosen], places, s=30, color=colour, label=f"after, {kind}", zorder=4)
        names = [str(name).replace("_", " ") for name in names]
        labels = names if counts is None else [f"{n}  ({c})" for n, c in zip(names, counts, strict=True)]
        axis.set_yticks(range(len(order)), [labels[i] for i in order])
        axis.set_ylim(-0.7, len(order) - 0.3)
        axis.set_xlabel("mean error (mm)")
        axis.grid(axis="y", visible=False)
        figure.legend(loc="outside upper right", ncols=4)
    return figure


def error_at_birth(errors_mm: Mapping[str, ArrayLike]) -> Figure:
    """How hard each arm's images were for the estimator when they were made: one small histogram an arm."""
    return arm_histograms(errors_mm, "error at birth (mm); the line is the median")


def arm_histograms(values_mm: Mapping[str, ArrayLike], label: str) -> Figure:
    """One small histogram an arm, one below the other, with its median.

    Args:
        values_mm: (N,) of each arm; what is not finite is left out.
        label: of the axis that they share.
    """
    arrays = {arm: np.asarray(values, float) for arm, values in values_mm.items()}
    arrays = {arm: values[np.isfinite(values)] for arm, values in arrays.items()}
    top = max((float(np.quantile(values, 0.995)) for values in arrays.values() if len(values)), default=1.0)
    edges = np.linspace(0.0, max(top, 1.0), 41)
    with quiet_style():
        figure, axes = new_figure(7.2, 0.7 + 0.62 * len(arrays), nrows=max(len(arrays), 1), sharex=True)
        for axis, (arm, values) in zip(axes[:, 0], arrays.items(), strict=False):
            look = arm_look(arm)
            axis.hist(np.clip(values, 0.0, edges[-1]), edges, color=look.colour, alpha=0.85)
            if len(values):
                median = float(np.median(values))
                axis.axvline(median, color=INK, linewidth=1.2)
                axis.text(1.0, 0.72, f"median {median:.0f} mm", transform=axis.transAxes, ha="right", color=MUTED)
            axis.set_yticks([])
            axis.set_ylabel(look.label, rotation=0, ha="right", va="center", color=INK)
            axis.spines["left"].set_visible(False)
            axis.grid(False)
        axes[-1, 0].set_xlabel(label)
    return figure


def benchmark_dots(
    values: Mapping[str, Mapping[str, Mapping[str, float]]], arms: Sequence[str], metric: str = "MPJPE (mm)"
) -> Figure:
    """One panel a benchmark, one dot an arm with its 95 % interval; the grey line is `before`.

    Args:
        values: benchmark -> arm -> {value, low, high}.
    """
    with quiet_style():
        figure, axes = new_figure(WIDE_IN, 0.8 + 0.3 * len(arms), ncols=max(len(values), 1), sharey=True)
        for axis, (benchmark, by_arm) in zip(axes[0], values.items(), strict=False):
            _dots(axis, [by_arm.get(arm) for arm in arms], arms)
            axis.set_title(benchmark)
            if "before" in by_arm:
                axis.axvline(
                    by_arm["before"]["value"], color=arm_look("before").colour, linewidth=1, alpha=0.7, zorder=1
                )
        axes[0, 0].set_yticks(range(len(arms)), [arm_look(arm).label for arm in arms])
        axes[0, 0].set_ylim(len(arms) - 0.4, -0.6)
        figure.supxlabel(f"{metric}, 95 % interval", fontsize=9, color=MUTED)
    return figure


def relative_change(average: Mapping[str, Mapping[str, float]], arms: Sequence[str]) -> Figure:
    """The mean relative change of MPJPE over the benchmarks, an arm a line; left of zero is better."""
    shown = [arm for arm in arms if arm in average]
    percent = [{key: 100.0 * number for key, number in average[arm].items()} for arm in shown]
    with quiet_style():
        figure, axes = new_figure(7.2, 0.8 + 0.32 * len(shown))
        axis = axes[0, 0]
        axis.axvline(0.0, color=MUTED, linewidth=1, zorder=1)
        _dots(axis, percent, shown)
        axis.set_yticks(range(len(shown)), [arm_look(arm).label for arm in shown])
        axis.set_ylim(len(shown) - 0.4, -0.6)
        axis.set_xlabel("mean relative change of MPJPE (%), 95 % interval; left is better")
    return figure


def _dots(axis: Axes, cells: Sequence[Mapping[str, float] | None], arms: Sequence[str]) -> None:
    for y, (arm, cell) in enumerate(zip(arms, cells, strict=True)):
        if cell is None:
            continue
        look = arm_look(arm)
        axis.plot(
            [cell.get("low", cell["value"]), cell.get("high", cell["value"])], [y, y], color=look.colour, zorder=2
        )
        axis.scatter(cell["value"], y, s=46, color=look.colour, marker=look.marker, zorder=3)
    axis.grid(axis="y", visible=False)


def curves(
    histories: Mapping[str, Sequence[Mapping[str, Any]]], keys: Sequence[str], labels: Mapping[str, str] | None = None
) -> Figure:
    """Training curves: a panel a scalar, a line an arm (raw, and a running mean where there are many points).

    Args:
        histories: arm -> rows of its history, flat scalars with `step`.
        keys: the scalars to draw.
        labels: better names of scalars.
    """
    from matplotlib.ticker import MaxNLocator

    columns = min(3, max(len(keys), 1))
    rows = -(-max(len(keys), 1) // columns)
    with quiet_style():
        figure, axes = new_figure(
            WIDE_IN, 2.05 * rows + (0.5 if len(histories) > 1 else 0.2), nrows=rows, ncols=columns
        )
        handles: dict[str, Any] = {}
        for axis, key in zip(axes.flat, keys, strict=False):
            axis.set_title((labels or {}).get(key, key.replace("_", " ")))
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            for arm, history in histories.items():
                points = [(row["step"], float(row[key])) for row in history if key in row]
                if not points:
                    continue
                steps, values = (np.array(column, float) for column in zip(*points, strict=True))
                look = arm_look(arm)
                smooth = _running_mean(values)
                if len(values) > 30:
                    axis.plot(steps, values, color=look.colour, linewidth=0.7, alpha=0.3)
                (handles[look.label],) = axis.plot(steps, smooth, color=look.colour)
        for axis in axes.flat[len(keys) :]:
            axis.set_visible(False)
        for axis in axes[-1]:
            axis.set_xlabel("step")
        if len(histories) > 1:
            labels_in_order = [label for arm in histories if (label := arm_look(arm).label) in handles]
            figure.legend(
                [handles[label] for label in labels_in_order],
                labels_in_order,
                loc="outside upper right",
                ncols=legend_columns(labels_in_order, WIDE_IN),
            )
    return figure


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a window of a twentieth of the curve, narrower at its ends."""
    half = len(values) // 40
    if half == 0:
        return values
    padded = np.concatenate([[0.0], np.cumsum(np.nan_to_num(values))])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (padded[high] - padded[low]) / (high - low)


def bars(names: Sequence[str], values: ArrayLike, label: str) -> Figure:
    """Plain horizontal bars, the first name on top."""
    with quiet_style():
        figure, axes = new_figure(7.2, 0.75 + 0.3 * len(names))
        axis = axes[0, 0]
        axis.barh(range(len(names)), np.asarray(values, float), color=series_colours(1)[0], height=0.62)
        axis.set_yticks(range(len(names)), [str(name) for name in names])
        axis.invert_yaxis()
        axis.set_xlabel(label)
        axis.grid(axis="y", visible=False)
        axis.axvline(0, color=GRID, linewidth=1)
    return figure
