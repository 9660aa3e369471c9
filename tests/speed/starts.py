"""What forking workers saves a run: the smoke experiment with Ray's own starts and with the fork server's, in turn.

    python tests/speed/starts.py [--repeats 2] [--json FILE] [OVERRIDES]

Prints of each the seconds of all stages, and of what its trainings spent neither training nor waiting for rows:
starting workers, reports, the end. The figures of all runs must be the same; otherwise it says so and ends with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from run import breakdown

WAYS = {"own": "0", "forked": "1"}


def one(way: str, words: list[str]) -> tuple[dict[str, float], object]:
    """Seconds of a whole run in a process of its own, and the figures that came out."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "posegen.cli", "run", "experiment=smoke", f"run.outputs={folder}", *words]
        variables = {**os.environ, "POSEGEN_FORK_WORKERS": WAYS[way]}
        subprocess.run(command, env=variables, check=True, stdout=subprocess.DEVNULL)
        run = next(path.parent for path in Path(folder).glob("*/summary.json") if not path.parent.is_symlink())
        stages = breakdown(run)
        seconds = {
            "stages": sum(stage.seconds for stage in stages),
            "rest of trainings": sum(stage.rest or 0.0 for stage in stages),
        }
        return seconds, json.loads((run / "summary.json").read_text())["benchmarks"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    taken: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    figures = []
    for _ in range(options.repeats):
        for way, times in taken.items():
            seconds, came = one(way, options.overrides)
            times.append(seconds)
            figures.append(came)
    told = {}
    for what in ("stages", "rest of trainings"):
        own, forked = (statistics.median(run[what] for run in taken[way]) for way in WAYS)
        told[what] = {"own_s": own, "forked_s": forked, "ratio": own / forked}
        print(f"{what:<20} own {own:6.1f} s   forked {forked:6.1f} s   {own / forked:.2f} times")
    same = all(came == figures[0] for came in figures)
    print("the figures of all runs are the same" if same else "the figures of the runs differ")
    if options.json:
        options.json.write_text(json.dumps({"load": os.getloadavg()[0], "same": same, **told}, indent=1))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
