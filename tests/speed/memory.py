"""What keeping freed memory saves a renderer: processor seconds of user and kernel, and the peak, both ways in turn.

python tests/speed/memory.py [--size 256] [--rows 16] [--repeats 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path


def measured(size: int, rows: int, keeps: bool) -> dict[str, float]:
    """Of this process: rendering so many rows of the arm `random`, the second time."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import numpy as np

    from posegen.arms.rows import RowRenderer
    from posegen.config import compose
    from posegen.config.task import ArmTask
    from posegen.machine import keep_freed_memory

    if keeps and not keep_freed_memory():
        raise SystemExit("this C library cannot be told to keep freed memory")
    render = RowRenderer(ArmTask(compose(["estimator=blazepose", f"image_size={size}"]), "random"), "cpu")
    render(np.arange(rows))
    before = resource.getrusage(resource.RUSAGE_SELF)
    render(np.arange(rows))
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "user_s": after.ru_utime - before.ru_utime,
        "kernel_s": after.ru_stime - before.ru_stime,
        "peak_mb": after.ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=["left", "kept"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.size, given.rows, given.one == "kept")))
        return
    runs: dict[str, list[dict[str, float]]] = {"left": [], "kept": []}
    for _ in range(given.repeats):
        for way, times in runs.items():
            words = [sys.executable, __file__, "--one", way, "--size", str(given.size), "--rows", str(given.rows)]
            times.append(json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout))
    told = {way: {key: statistics.median(run[key] for run in times) for key in times[0]} for way, times in runs.items()}
    for way, t in told.items():
        print(f"{way:<6} user {t['user_s']:6.2f} s   kernel {t['kernel_s']:6.2f} s   peak {t['peak_mb']:6.0f} MB")
    left, kept = (told[way]["user_s"] + told[way]["kernel_s"] for way in ("left", "kept"))
    print(f"ratio of processor time {left / kept:.2f}")
    if given.json:
        given.json.write_text(json.dumps({**told, "ratio": left / kept}, indent=1))


if __name__ == "__main__":
    main()
