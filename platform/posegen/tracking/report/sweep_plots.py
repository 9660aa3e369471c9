"""What a sweep taught: its table, parallel coordinates, and which parameter mattered.

A result is a flat or nested mapping of one trial: `{"params": {...}, "metrics": {...}, "status": "finished"}`; numbers
that are missing (a trial that failed or was stopped) are allowed everywhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from posegen.tracking.report.plots import WIDE_IN
from posegen.tracking.report.style import BETTER, GRID, MUTED, PAPER, new_figure, quiet_style, to_png
from posegen.tracking.report.tables import Row, align
from posegen.tracking.store.names import flatten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Result = Mapping[str, Any]
AXIS_LETTERS = 100  # that fit side by side below a figure of WIDE_IN


def varied(results: Sequence[Result]) -> list[str]:
    """The parameters that took more than one value, in the order of their first appearance."""
    seen: dict[str, set[str]] = {}
    for result in results:
        for key, value in flatten(result.get("params", {})).items():
            seen.setdefault(key, set()).add(str(value))
    return [key for key, values in seen.items() if len(values) > 1]


def objective(results: Sequence[Result], metric: str) -> NDArray[np.float64]:
    """(N,) the metric of each trial, NaN where it has none."""
    values = [flatten(result.get("metrics", {})).get(metric) for result in results]
    return np.array([float(v) if isinstance(v, int | float) and math.isfinite(v) else math.nan for v in values])


def ranked(results: Sequence[Result], metric: str, *, lower_is_better: bool = True) -> list[int]:
    """Indices of the trials, the best first, those without the metric last."""
    values = objective(results, metric)
    signed = values if lower_is_better else -values
    return [int(i) for i in np.argsort(np.where(np.isnan(signed), np.inf, signed), kind="stable")]


def sweep_table(results: Sequence[Result], metric: str, *, lower_is_better: bool = True, most: int = 30) -> str:
    """The trials as text for the terminal, the best first."""
    if not results:
        return "the sweep has no trial yet"
    keys, values = varied(results), objective(results, metric)
    order = ranked(results, metric, lower_is_better=lower_is_better)
    rows: list[Row] = []
    for rank, index in enumerate(order[:most], 1):
        params = flatten(results[index].get("params", {}))
        value = "–" if math.isnan(values[index]) else f"{values[index]:.4g}"
        said = [_short(params.get(key)) for key in keys]
        rows.append([(str(rank), ""), ("", value), *[("", text) for text in said], ("", _status(results[index]))])
    text = align(
        ["rank", metric, *[key.rsplit(".", 1)[-1] if _unique(key, keys) else key for key in keys], "status"], rows
    )
    more = len(order) - most
    return f"{text}\n({more} more)" if more > 0 else text


def _status(result: Result) -> str:
    return str(result.get("status", "finished"))


def _unique(key: str, keys: Sequence[str]) -> bool:
    last = key.rsplit(".", 1)[-1]
    return sum(other.rsplit(".", 1)[-1] == last for other in keys) == 1


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "–" if value is None else str(value)


def coordinate(values: Sequence[Any]) -> tuple[NDArray[np.float64], list[tuple[float, str]]]:
    """Places of a parameter's values on an axis from 0 to 1, with its ticks.

    Numbers keep their distances, on a logarithmic scale when they are positive and span more than a factor of 20;
    other values are spread evenly in order. A missing value is NaN.
    """
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    if len(numbers) == sum(value is not None for value in values) and len(numbers) > 0:
        array = np.array([math.nan if value is None else float(value) for value in values])
        low, high = np.nanmin(array), np.nanmax(array)
        logarithmic = low > 0 and high / low > 20
        line = np.log10(array) if logarithmic else array
        bottom, span = np.nanmin(line), max(float(np.nanmax(line) - np.nanmin(line)), 1e-12)
        places = (line - bottom) / span
        middle = 10 ** (bottom + span / 2) if logarithmic else bottom + span / 2
        ticks = [(0.0, _short(float(low))), (0.5, _short(float(middle))), (1.0, _short(float(high)))]
        return places, ticks if high > low else [(0.0, _short(float(low)))]
    names = sorted({str(value) for value in values if value is not None})
    place = {name: (i / (len(names) - 1) if len(names) > 1 else 0.5) for i, name in enumerate(names)}
    array = np.array([math.nan if value is None else place[str(value)] for value in values])
    return array, [(place[name], name) for name in names]


def parallel_coordinates(results: Sequence[Result], metric: str, *, lower_is_better: bool = True) -> Figure:
    """One line a trial across its parameters to the metric; the darker the better, the best tenth in blue."""
    from matplotlib import colormaps

    keys, values = varied(results), objective(results, metric)
    order = ranked(results, metric, lower_is_better=lower_is_better)
    axes_values = [[flatten(result.get("params", {})).get(key) for result in results] for key in keys]
    columns = [coordinate(column) for column in axes_values]
    columns.append(coordinate([None if math.isnan(value) else float(value) for value in values]))
    finished = [i for i in order if not math.isnan(values[i])]
    with quiet_style():
        figure, axes = new_figure(WIDE_IN, 3.6)
        axis = axes[0, 0]
        for rank, index in reversed(list(enumerate(finished))):
            share = rank / max(len(finished) - 1, 1)
            best = rank < max(1, len(finished) // 10)
            colour = BETTER if best else colormaps["Greys"](0.65 - 0.4 * share)
            heights = [places[index] for places, _ in columns]
            axis.plot(
                range(len(columns)), heights, color=colour, linewidth=2.0 if best else 1.0, zorder=3 if best else 2
            )
        for x, (_, ticks) in enumerate(columns):
            axis.axvline(x, color=GRID, linewidth=1, zorder=1)
            for y, text in ticks:
                axis.annotate(
                    text, (x, y), (5, 0), textcoords="offset points", va="center", color=MUTED, fontsize=8, zorder=4,
                    bbox={"boxstyle": "square,pad=0.15", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.85},
                )  # fmt: skip
        width = max(8, AXIS_LETTERS // len(columns))
        axis.set_xticks(range(len(columns)), [_wrapped(name, width) for name in [*keys, metric]], fontsize=8)
        axis.set(xlim=(-0.1, len(columns) - 0.55), ylim=(-0.06, 1.06), yticks=[])
        axis.grid(False)
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure


def _wrapped(name: str, width: int) -> str:
    """A dotted name on lines of at most `width` letters where it has a dot or underscore to break at."""
    lines = [""]
    for piece in re.findall(r"[^._]+[._]?|[._]", name):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def importance(results: Sequence[Result], metric: str, seed: int = 0) -> dict[str, float]:
    """How much of the metric's variation each parameter explains, the largest first; the shares add up to 1.

    A random forest learns the metric from the parameters; a parameter's importance is how much worse its fit gets when
    the parameter's column is shuffled (permutation importance, Breiman 2001). Few trials say little: with fewer than
    four, or than twice as many as there are parameters, or when nothing varies, the answer is empty.
    """
    values = objective(results, metric)
    done = [int(i) for i in np.flatnonzero(np.isfinite(values))]
    keys = varied([results[i] for i in done])
    if len(done) < max(4, 2 * len(keys)) or not keys or np.ptp(values[done]) == 0:
        return {}
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    table = np.stack([_as_column([flatten(results[i].get("params", {})).get(key) for i in done]) for key in keys], 1)
    forest = RandomForestRegressor(n_estimators=200, min_samples_leaf=2, random_state=seed, n_jobs=1)
    forest.fit(table, values[done])
    scores = permutation_importance(forest, table, values[done], n_repeats=20, random_state=seed, n_jobs=1)
    gains = np.maximum(scores.importances_mean, 0.0)
    total = float(gains.sum())
    shares = gains / total if total > 0 else gains
    return {keys[i]: float(shares[i]) for i in np.argsort(-shares, kind="stable")}


def _as_column(values: Sequence[Any]) -> NDArray[np.float64]:
    """A parameter as numbers for a tree: its place on its axis, -1 where it has no value."""
    places, _ = coordinate(values)
    return np.nan_to_num(places, nan=-1.0)


def importance_plot(results: Sequence[Result], metric: str, seed: int = 0) -> Figure:
    """Bars of `importance`; a sentence where there are too few trials."""
    from posegen.tracking.report.plots import bars

    shares = importance(results, metric, seed)
    if shares:
        return bars(list(shares), [100 * share for share in shares.values()], f"share of the variation of {metric} (%)")
    with quiet_style():
        figure, axes = new_figure(7.2, 1.0)
        axes[0, 0].set_axis_off()
        axes[0, 0].text(0, 0.5, "Too few finished trials to tell which parameter matters.", color=MUTED)
    return figure


def save_sweep_plots(
    results: Sequence[Result], metric: str, folder: Path, *, lower_is_better: bool = True
) -> list[Path]:
    """parallel_coordinates.png and importance.png in the sweep's folder; none for a sweep without a number."""
    if not varied(results) or not np.isfinite(objective(results, metric)).any():
        return []
    figures = {
        "parallel_coordinates": parallel_coordinates(results, metric, lower_is_better=lower_is_better),
        "importance": importance_plot(results, metric),
    }
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        path.write_bytes(to_png(figure))
        written.append(path)
    return written
