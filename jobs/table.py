"""One experiment over several seeds in plain processes, without Ray: what a table over trainings is made of.

    python jobs/table.py experiment=blazepose --seeds 0-4                # one seed after the other
    python jobs/table.py experiment=blazepose --seeds 0-4 --parallel 5   # side by side, on a card with many cores

Each seed is a run directory that `posegen run` with the same words would fill, to the last digit, and may go on with;
stopped, the same command goes on. `posegen compare` of them judges the differences.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from posegen.arms.registry import BEFORE
from posegen.config import compose, run_path
from posegen.errors import ConfigError, PosegenError
from posegen.experiment.in_process import InProcess
from posegen.experiment.measured import Measured
from posegen.experiment.opening import opened
from posegen.progress import Reporter, duration
from posegen.tracking.report.tables import table_text


def run_seed(words: list[str]) -> Path:
    """All stages of one run in this process but the report; returns its directory."""
    config, reporter = compose(words), Reporter()
    with opened("run", config, InProcess(keep_mb=config.engine.keep_mb), reporter, words) as experiment:
        experiment.show_target()
        weights = {BEFORE: None, **{arm: experiment.finetune(arm) for arm in experiment.arms}}
        summary = Measured.of(experiment, weights).write_summary()
    reporter.say(table_text(summary))
    return experiment.run.path


def seeds_of(text: str) -> list[int]:
    """0-4 or 0,3,7. Raises ConfigError."""
    try:
        if "-" in text:
            first, last = text.split("-")
            seeds = list(range(int(first), int(last) + 1))
        else:
            seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ConfigError(f"--seeds {text!r} names no seeds", where="--seeds", choices=["0-4", "0,3,7"])
    return seeds


def run_all(words: list[str], seeds: list[int], parallel: int) -> list[Path]:
    """Every seed in a process of its own, `parallel` at a time. Raises RuntimeError where one fails."""
    paths = [run_path(compose([*words, f"seed={seed}"])) for seed in seeds]
    threads = max(1, (os.cpu_count() or 1) // parallel)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    waiting, working, failed = list(zip(seeds, paths, strict=True)), {}, []
    try:
        while waiting or working:
            while waiting and len(working) < parallel:
                seed, path = waiting.pop(0)
                path.mkdir(parents=True, exist_ok=True)
                log = (path / ".table.log").open("a", encoding="utf-8")
                print(f"seed {seed} -> {path}", flush=True)
                call = [sys.executable, __file__, *words, f"seed={seed}", "--one"]
                working[seed] = subprocess.Popen(call, env=environment, stdout=log, stderr=subprocess.STDOUT), path
            for seed, (process, path) in list(working.items()):
                if process.poll() is None:
                    continue
                del working[seed]
                if process.returncode:
                    failed.append(f"seed {seed} ended with {process.returncode}: see {path / '.table.log'}")
                print(f"seed {seed} {'failed' if process.returncode else 'is done'}", flush=True)
            time.sleep(0.5)
    finally:
        for process, _ in working.values():
            process.terminate()
        for process, _ in working.values():
            process.wait()
    if failed:
        raise RuntimeError("\n".join(failed))
    return paths


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="key=value", help="the configuration, as for posegen run")
    parser.add_argument("--seeds", default="0-4", help="such as 0-4 or 0,3,7")
    parser.add_argument("--parallel", type=int, default=1, help="seeds side by side")
    parser.add_argument("--one", action="store_true", help="only the seed that the words name, in this process")
    given = parser.parse_args()
    started = time.monotonic()
    try:
        if given.one:
            run_seed(given.words)
            return 0
        paths = run_all(given.words, seeds_of(given.seeds), max(1, given.parallel))
    except (PosegenError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(paths)} seeds in {duration(time.monotonic() - started)}")
    print("next: posegen compare", *paths)
    return 0


if __name__ == "__main__":
    sys.exit(main())
