"""Scale-out, simulated: 8 to 256 GPUs, where the bottleneck moves and which setting to change.

    python tests/speed/scaleout.py --json scaleout.json
    python tests/speed/workers.py --json workers.json       # measures rendering and training on this machine
    python tests/speed/scaleout.py --figures workers.json   # {"figures": {"render_ms": ..., "train_ms": ...}}

The model and its assumptions are in tests/speed/simulate.py. Figures that are not given are assumed, and said so.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from simulate import Figures, load_figures, scaleout, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figures", type=Path, help="JSON with measured figures")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256])
    parser.add_argument("--batch-rows", type=int, default=64)
    parser.add_argument("--block-rows", type=int, default=128)
    parser.add_argument("--json", type=Path, help="write figures and outcomes to this file")
    given = parser.parse_args()
    figures = load_figures(given.figures) if given.figures else Figures()
    outcomes = scaleout(figures, tuple(given.gpus), batch_rows=given.batch_rows, block_rows=given.block_rows)
    sys.stdout.write(f"measured: {', '.join(figures.measured) or 'nothing'}; assumed: {', '.join(figures.assumed)}\n")
    sys.stdout.write(table(outcomes) + "\n")
    if given.json:
        told = {"figures": asdict(figures), "assumed": figures.assumed, "outcomes": [asdict(o) for o in outcomes]}
        given.json.write_text(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
