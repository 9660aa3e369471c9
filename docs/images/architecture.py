"""Draws architecture.svg beside it: `python docs/images/architecture.py`."""

from pathlib import Path
from xml.sax.saxutils import escape

# name, what it holds, x, y, width, colour's class
BOXES = [
    ("conf/ + command line", "Hydra at the edge, a frozen typed configuration inside", 20, 20, 840, "edge"),
    ("experiment", "stages, arms, rounds, suites; what a table needs. No Ray", 20, 110, 410, "core"),
    ("engine", "the only room that imports Ray: train, data, tune, jobs", 450, 110, 410, "ray"),
    ("generator", "noise, pose, camera and look heads; discriminators", 20, 210, 200, "core"),
    ("renderer", "articulated field, C++ kernel; A-NeRF", 233, 210, 200, "core"),
    ("estimator", "SPIN, HybrIK, BlazePose, yours", 446, 210, 200, "core"),
    ("feedback", "the error made into a loss", 660, 210, 200, "core"),
    ("arms", "how each arm proposes scenes", 20, 310, 200, "core"),
    ("shards", "Arrow rows, each once, with digests", 233, 310, 200, "core"),
    ("finetune", "objective, guard, loop", 446, 310, 200, "core"),
    ("benchmarks", "readers, embedded sets, measures", 660, 310, 200, "core"),
    ("tracking", "MLflow, report, comparison", 20, 410, 413, "edge"),
    ("body, assets, files", "SMPL and free body, motion; what is read safely", 446, 410, 414, "edge"),
]
# from (x, y) to (x, y): the data's way
ARROWS = [((220, 245), (233, 245)), ((433, 245), (446, 245)), ((646, 245), (660, 245)),
          ((120, 310), (300, 280)), ((333, 280), (333, 310)), ((433, 345), (446, 345)), ((646, 345), (660, 345))]  # fmt: skip
STYLE = """
  .edge { fill: #eef1f6; stroke: #5b6b86 } .core { fill: #e5f2ee; stroke: #00796b } .ray { fill: #fdf0dd; stroke: #b26a00 }
  text { font-family: system-ui, sans-serif; fill: #1b2430 } .name { font-weight: 600; font-size: 17px }
  .said { font-size: 12.5px } path { stroke: #1b2430; stroke-width: 1.6; fill: none; marker-end: url(#tip) }
"""


def folded(text: str, width_px: float) -> list[str]:
    """A text in lines that fit, at about 6.3 px a letter."""
    lines, line = [], ""
    for word in text.split():
        if line and len(f"{line} {word}") * 6.3 > width_px - 24:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line]


def svg() -> str:
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 490" role="img" aria-labelledby="title">',
             '<title id="title">The rooms of PoseGen on Ray and the way of the data through them</title>',
             f"<style>{STYLE}</style>",
             '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
             '<path d="M0 0L10 5L0 10z" style="fill:#1b2430;stroke:none;marker-end:none"/></marker></defs>',
             '<rect width="880" height="490" fill="#ffffff"/>']  # fmt: skip
    for name, said, x, y, width, kind in BOXES:
        parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="70" rx="8"/>')
        parts.append(f'<text class="name" x="{x + 12}" y="{y + 24}">{escape(name)}</text>')
        parts += [f'<text class="said" x="{x + 12}" y="{y + 43 + 16 * i}">{escape(line)}</text>'
                  for i, line in enumerate(folded(said, width))]  # fmt: skip
    parts += [f'<path d="M{x0} {y0}L{x1} {y1}"/>' for (x0, y0), (x1, y1) in ARROWS]
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(svg(), encoding="utf-8")
