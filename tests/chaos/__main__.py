"""python -m tests.chaos --kills 50 [--seed 0] [--fault NAME ...] [--folder FOLDER] [--limit SECONDS]"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from .campaign import campaign
from .faults import usable


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Faults at random moments of a small experiment, and what comes of it.",
    )
    parser.add_argument("--kills", type=int, default=len(usable()), help="how many runs are struck, a fault each")
    parser.add_argument("--seed", type=int, default=0, help="chooses stages and moments")
    parser.add_argument("--fault", action="append", choices=list(usable()), help="only these, in turn")
    parser.add_argument("--folder", type=Path, help="where the runs are kept (default: a new temporary folder)")
    parser.add_argument("--limit", type=float, default=900, metavar="SECONDS", help="of one command")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="posegen-chaos-"))
    return campaign(given.kills, given.seed, folder, given.fault or (), given.limit)


if __name__ == "__main__":
    sys.exit(main())
