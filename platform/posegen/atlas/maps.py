"""Figures of an atlas: a map of poses, errors by viewpoint and by condition, what each group carries.

Errors are in millimetres. Colours are viridis and cividis, which people with any kind of colour vision order alike; no
figure depends on colour alone.

Dimensions: N pictures.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from posegen.atlas.facts import BEHIND, KNOWN, FactTable
from posegen.atlas.pose_facts import Numbers
from posegen.tracking.report.plots import AZIMUTH_EDGES_DEG, ELEVATION_EDGES_DEG, WIDE_IN, binned_mean
from posegen.tracking.report.style import GRID, INK, MUTED, PAPER, new_figure, quiet_style, series_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PERPLEXITY = 30
FEW_ROWS = 3 * PERPLEXITY
TITLE_LETTERS = 42  # on a line of a panel's title
RIM = "#8a8f99"  # of dots: seen on a light page and on a dark one
FEW = 8  # a mean of fewer pictures is shown pale


def flat_places(pose: Numbers, seed: int) -> Numbers:
    """(N,D) -> (N,2): t-SNE (van der Maaten & Hinton 2008) begun at the principal components; those with few rows."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if len(pose) <= FEW_ROWS:
        return PCA(2, random_state=seed).fit_transform(pose)
    reduced = PCA(min(20, *pose.shape), random_state=seed).fit_transform(pose)
    return TSNE(2, perplexity=PERPLEXITY, init="pca", random_state=seed).fit_transform(reduced).astype(np.float64)


def way_of(count: int) -> str:
    """How `flat_places` lays out so many rows."""
    return "principal components" if count <= FEW_ROWS else "t-SNE"


def pose_map(places: Numbers, errors_mm: Numbers, of_group: NDArray[np.int64], numbers: Sequence[int]) -> Figure:
    """Each picture's pose as a dot (N,2), coloured by its error (N,), with groups' numbers at their middle."""
    with quiet_style():
        figure, axes = new_figure(WIDE_IN, 6.2)
        axis = axes[0, 0]
        low, high = np.quantile(errors_mm, [0.02, 0.98])
        order = np.argsort(errors_mm, kind="stable")  # the worst on top
        dots = axis.scatter(
            *places[order].T, c=errors_mm[order], cmap="viridis", vmin=low, vmax=high, s=17, linewidths=0.4,
            edgecolors=RIM, rasterized=True,
        )  # fmt: skip
        for number in numbers:
            own = places[of_group == number]
            if len(own):
                axis.annotate(
                    str(number), np.median(own, 0), ha="center", va="center", color=INK, fontsize=10, weight="bold",
                    bbox={"boxstyle": "circle,pad=0.25", "facecolor": PAPER, "edgecolor": MUTED},
                )  # fmt: skip
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        for spine in axis.spines.values():
            spine.set_visible(False)
        bar = figure.colorbar(dots, ax=axis, shrink=0.6, aspect=30, label="error (mm)")
        bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def viewpoint_map(azimuth_deg: Numbers, elevation_deg: Numbers, errors_mm: Numbers, title: str = "") -> Figure:
    """Mean error by azimuth about the trunk and elevation above the horizon, with the number of pictures a cell."""
    mean, count = binned_mean(errors_mm, np.radians(azimuth_deg), np.radians(elevation_deg))
    rows = np.flatnonzero(count.any(1))
    rows = np.arange(rows.min(), rows.max() + 1)
    finite = mean[count >= FEW] if (count >= FEW).any() else mean[np.isfinite(mean)]
    low, high = float(finite.min()), float(finite.max())
    with quiet_style():
        figure, axes = new_figure(WIDE_IN, 1.15 + 0.62 * len(rows))
        axis = axes[0, 0]
        shown = count[rows]
        mesh = axis.pcolormesh(
            np.ma.masked_where(shown == 0, mean[rows]), cmap="cividis", vmin=low, vmax=max(high, low + 1e-9),
            alpha=np.where(shown >= FEW, 1.0, 0.35), edgecolors=PAPER, linewidth=2,
        )  # fmt: skip
        for y, x in np.ndindex(shown.shape):
            value, people = float(mean[rows[y], x]), int(shown[y, x])
            _tell_cell(axis, x, y, value, people, mesh.to_rgba(value, alpha=1.0))
        axis.set(xlim=(0, mean.shape[1]), ylim=(0, len(rows)), title=title)
        edges = ELEVATION_EDGES_DEG
        axis.set_yticks(np.arange(len(rows)) + 0.5, [f"{edges[r]}° to {edges[r + 1]}°".replace("-", "−") for r in rows])
        centres = (AZIMUTH_EDGES_DEG[:-1] + AZIMUTH_EDGES_DEG[1:]) // 2
        axis.set_xticks(np.arange(len(centres)) + 0.5, [f"{c:+d}°".replace("-", "−") for c in centres])
        axis.set_xlabel("azimuth of the camera (0° sees the front, +90° the left side); rows: elevation")
        axis.grid(False)
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure


def _tell_cell(axis: Axes, x: int, y: int, value: float, count: int, colour: Sequence[float]) -> None:
    if not count:
        axis.text(x + 0.5, y + 0.5, "–", ha="center", va="center", color=MUTED)
        return
    bright = float(np.dot(colour[:3], (0.299, 0.587, 0.114))) > 0.5
    tone = INK if count < FEW else "#101418" if bright else "#fdfdfd"
    axis.text(x + 0.5, y + 0.6, f"{value:.0f}", ha="center", va="center", color=tone, fontsize=9)
    axis.text(x + 0.5, y + 0.24, f"{count}", ha="center", va="center", color=tone, fontsize=6.5)


def conditions_plot(facts: FactTable, errors_mm: Numbers, after_mm: Numbers | None, names: Sequence[str]) -> Figure:
    """The mean error over several conditions, a panel each; the bars behind are how many pictures there are."""
    columns = 3
    rows = -(-len(names) // columns)
    with quiet_style():
        figure, axes = new_figure(WIDE_IN, 2.5 * rows, nrows=rows, ncols=columns, sharey=True)
        tops: list[float] = []
        for axis, name in zip(axes.flat, names, strict=False):
            means, later, counts, labels = binned(facts, errors_mm, after_mm, name)
            _condition(axis, means, later, counts, labels, joined=name in KNOWN)
            title = KNOWN[name].title if name in KNOWN else name
            axis.set_title("\n".join(textwrap.wrap(title, TITLE_LETTERS)), fontsize=8.5)
            tops += [values[counts >= FEW].max(initial=0.0) for values in (means, later) if values is not None]
        axes[0, 0].set_ylim(0, 1.12 * max(*tops, 1e-9))
        for axis in axes.flat[len(names) :]:
            axis.set_visible(False)
        for axis in axes[:, 0]:
            axis.set_ylabel("mean error (mm)")
    return figure


def _condition(
    axis: Axes, means: Numbers, later: Numbers | None, counts: NDArray[np.int64], labels: Sequence[str], joined: bool
) -> None:
    """One panel; `joined` draws a line through the points, which names without an order do not get."""
    before, after = series_colours(2)
    places = np.arange(len(means))
    behind = axis.twinx()
    behind.bar(places, counts, color=GRID, width=0.86, zorder=0)
    behind.set(yticks=[], ylim=(0, 2.6 * max(int(counts.max(initial=1)), 1)))
    behind.grid(False)
    for spine in behind.spines.values():
        spine.set_visible(False)
    axis.set_zorder(behind.get_zorder() + 1)
    good = counts >= FEW
    axis.plot(places[good], means[good], color=before, marker="o", markersize=4.5, label="before",
              linestyle="-" if joined else "none")  # fmt: skip
    if later is not None:
        axis.plot(places[good], later[good], color=after, marker="s", markersize=4.5, label="after",
                  linestyle="--" if joined else "none")  # fmt: skip
        axis.legend(loc="upper left", fontsize=7)
    axis.set_xticks(places, labels, fontsize=6.8, rotation=30 if max(map(len, labels)) > 7 else 0)


def binned(
    facts: FactTable, errors_mm: Numbers, after_mm: Numbers | None, name: str
) -> tuple[Numbers, Numbers | None, NDArray[np.int64], list[str]]:
    """Of a fact or label: mean errors by bin, those after, numbers of pictures, and what the bins are called."""
    if name in facts.labels:
        kinds, inverse = np.unique(facts.labels[name], return_inverse=True)
        labels = [BEHIND.get(str(kind), str(kind)).removeprefix("a ") for kind in kinds]
        bins = len(kinds)
    else:
        fact, values = KNOWN[name], facts[name]
        inner = np.array(fact.edges[1:-1])
        inverse, bins = np.searchsorted(inner, values, side="right"), len(inner) + 1
        ends = [fact.said(edge) for edge in inner]
        labels = [f"< {ends[0]}", *[f"{a}–{b}" for a, b in itertools.pairwise(ends)], f"≥ {ends[-1]}"]
    counts = np.bincount(inverse, minlength=bins)

    def means(values: Numbers) -> Numbers:
        with np.errstate(invalid="ignore"):
            return np.bincount(inverse, weights=values, minlength=bins) / counts

    kept = np.flatnonzero(counts)
    later = None if after_mm is None else means(after_mm)[kept]
    return means(errors_mm)[kept], later, counts[kept], [labels[i] for i in kept]


def carried_plot(names: Sequence[str], common: Mapping[str, Sequence[float]], carried: Sequence[float]) -> Figure:
    """Each group's share of the pictures and of the total error, the worst group on top."""
    order = np.arange(len(names))[::-1]
    colours, markers = series_colours(3), ("o", "D")
    with quiet_style():
        figure, axes = new_figure(WIDE_IN, 0.9 + 0.27 * len(names))
        axis = axes[0, 0]
        axis.barh(order, 100 * np.asarray(carried), color=colours[1], height=0.62, alpha=0.85, label="of the error")
        for (source, shares), marker, colour in zip(common.items(), markers, (INK, colours[2])):
            axis.scatter(100 * np.asarray(shares), order, s=30, color=colour, marker=marker, zorder=3,
                         label=f"of the pictures ({source})")  # fmt: skip
        axis.set_yticks(order, names, fontsize=8)
        axis.set_xlabel("share (%); a bar longer than its dot: more than its part of the error")
        axis.grid(axis="y", visible=False)
        figure.legend(loc="outside upper right", ncols=3)
    return figure
