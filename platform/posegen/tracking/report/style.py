"""One look for all figures: the colours of the arms, a quiet matplotlib style, figures as inline SVG.

The arms' colours are of the Okabe-Ito palette (Okabe & Ito 2008, "Color Universal Design"), told apart by people with
any kind of colour vision; each arm has its own marker as well. Better is blue and worse is vermilion everywhere.

In the SVG text and lines take the page's own colours (CSS variables), so that a figure is read on a light page and on
a dark one; as PNG the same figure is dark on white.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from posegen.arms.registry import BEFORE, known

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1f2430"
MUTED = "#6a7180"
GRID = "#dfe3e8"
PAPER = "#fefefe"
BETTER = "#0072b2"
WORSE = "#d55e00"

_CSS_OF = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--page)", BETTER: "var(--better)"}


@dataclass(frozen=True)
class ArmLook:
    """How an arm is named and drawn."""

    label: str
    colour: str
    marker: str
    meaning: str


_OTHERS = {
    BEFORE: ArmLook("before", "#868d99", "o", "the source estimator, not fine-tuned"),
    "source": ArmLook("source", "#b0a18f", "p", "what the source estimator was trained on"),
}
_SPARE = (("#b8860b", "<"), ("#8c6bb1", ">"), ("#5f9e6e", "p"), ("#c44e52", "h"), ("#4c72b0", "d"))


def arm_look(arm: str) -> ArmLook:
    """The look of a known arm, else one that depends on the name alone."""
    if arm in _OTHERS:
        return _OTHERS[arm]
    name, mark, number = arm.partition("-round")
    found = known(name)
    if found is not None and not mark:
        return ArmLook(found.label, found.colour, found.marker, found.meaning)
    if found is not None:
        later = _SPARE[int(number) % len(_SPARE)] if number.isdigit() else _SPARE[0]
        return ArmLook(f"{found.label}, round {number}", *later, found.meaning)
    colour, marker = _SPARE[sum(arm.encode()) % len(_SPARE)]
    return ArmLook(arm, colour, marker, "")


def series_colours(count: int) -> list[str]:
    """Colours for series that are no arms, in a fixed order."""
    palette = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#868d99"]
    return [palette[i % len(palette)] for i in range(count)]


@contextmanager
def quiet_style() -> Iterator[None]:
    """The rc settings of every figure; nothing global is changed."""
    import matplotlib

    settings: Any = {
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 9,
        "axes.edgecolor": GRID,
        "axes.labelcolor": MUTED,
        "axes.titlecolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.facecolor": "none",
        "grid.color": GRID,
        "grid.linewidth": 0.7,
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "lines.linewidth": 1.6,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "figure.facecolor": "white",
        "savefig.dpi": 150,
        "svg.fonttype": "none",
    }
    with matplotlib.rc_context(settings):
        yield


def new_figure(width_in: float, height_in: float, **subplots: Any) -> tuple[Figure, Any]:
    """A figure outside pyplot (no global state, safe in threads) and its axes, always a 2-D array."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    return figure, figure.subplots(squeeze=False, **subplots)


def legend_columns(labels: Sequence[str], width_in: float) -> int:
    """How many of a legend's labels stand side by side in a figure of this width without being cut."""
    widest_in = 0.5 + 0.075 * max(map(len, labels), default=0)  # the mark, and letters of a browser's own font
    return max(1, min(len(labels), int(width_in / widest_in)))


def to_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with quiet_style():
        figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": ""})
    return buffer.getvalue()


def to_svg(figure: Figure, name: str, description: str) -> str:
    """An `<svg>` element to put into a page as it is.

    Args:
        name: unique in the page: element ids are derived from it.
        description: what a reader who cannot see the figure is told.
    """
    import html

    import matplotlib

    buffer = io.StringIO()
    with quiet_style(), matplotlib.rc_context({"svg.hashsalt": name}):
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Ids are unique in a figure only; two figures of one page must not share a clip path.
    prefix = re.sub(r"\W", "-", name)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    for colour, variable in _CSS_OF.items():
        svg = svg.replace(colour, variable)
    # Fixed point sizes would stop the figure from shrinking with the window; the widest it gets is its own size.
    width_px = figure.get_size_inches()[0] * 96
    svg = re.sub(
        r'<svg [^>]*viewBox="([^"]+)"[^>]*>', rf'<svg viewBox="\1" style="max-width:{width_px:.0f}px">', svg, count=1
    )
    svg = re.sub(r"<svg ", f'<svg class="plot" role="img" aria-label="{html.escape(description)}" ', svg, count=1)
    # matplotlib's own font list starts with fonts that few machines have.
    return re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", svg).strip()


def data_uri(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
