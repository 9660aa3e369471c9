"""Writes people of the embedded world with their true poses and cameras as a lifted target: how much is there to gain?

    python jobs/true_target.py --of targets --to true.npz     # what perfect lifting of the target's parts would give
    python jobs/true_target.py --of tests --to tests.npz      # the tests' own scenes: a bound, which no user can know
    python jobs/table.py experiment=blazepose target=none feedback=maximise target.lifted=true.npz \\
        dataset.arms=random,anchors --seeds 0-4

What comes of it is never a result, only what others can be held against.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from posegen.files.results import free
from posegen.scenes.split import load_split
from posegen.target.lifted import write_lifted
from posegen.target.truth import true_lifted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", choices=("targets", "tests"), default="targets")
    parser.add_argument("--images", type=int, default=100, help="people of each stand-in")
    parser.add_argument("--to", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--overwrite", action="store_true", help="write over the file where it is there")
    given = parser.parse_args()
    path = free(given.to, given.overwrite)
    split = load_split("embedded")
    parts = [(split.targets if given.of == "targets" else split.tests)[name] for name in split.tests]
    lifted = true_lifted(parts, given.images)
    write_lifted(lifted, path)
    print(f"{len(lifted)} people of {', '.join(part.name for part in parts)}: {path}")
    print(f"  next: posegen run target.lifted={path} dataset.arms=random,anchors")


if __name__ == "__main__":
    main()
