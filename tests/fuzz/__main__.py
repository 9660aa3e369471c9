"""python -m tests.fuzz --cases 20000 [--format NAME ...] [--seed 0] [--only NUMBER] [--workers 2] [--save FOLDER]"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Damaged files of every format, through their readers."
    )
    parser.add_argument("--cases", type=int, default=2000, help="how many in all")
    parser.add_argument(
        "--format", action="append", metavar="NAME", help="only these; a part of a name takes all that have it"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="at most; the cases are in random order")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one case by its number, told in full")
    parser.add_argument("--workers", type=int, default=max(1, len(os.sched_getaffinity(0)) - 1))
    parser.add_argument(
        "--save", type=Path, default=Path("fuzz-findings"), metavar="FOLDER", help="where wrong cases go"
    )
    parser.add_argument("--files", type=Path, metavar="FOLDER", help="damaged files, by their names' readers")
    parser.add_argument("--list", action="store_true", help="the names of the formats")
    given = parser.parse_args(words)
    # One thread and no arenas set aside: what a case takes of memory is then its own.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    os.environ["MALLOC_ARENA_MAX"] = "2"
    from .campaign import Plan, campaign

    plan = Plan(
        given.cases,
        given.seed,
        tuple(given.format or ()),
        given.only,
        given.workers,
        given.save,
        given.list,
        given.files,
        given.minutes,
    )
    return campaign(plan)


if __name__ == "__main__":
    sys.exit(main())
