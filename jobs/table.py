"""One experiment over several seeds in plain processes, without Ray: what a table over trainings is made of.

    python jobs/table.py experiment=blazepose --seeds 0-4                # one seed after the other
    python jobs/table.py experiment=blazepose --seeds 0-4 --parallel 5   # side by side, on a card with many cores
    python jobs/table.py experiment=paper_table --over estimator=hmr_lite,blazepose --seeds 0-4
    python jobs/table.py experiment=paper_table --over estimator=hmr_lite,blazepose --plan   # says the hours, no more

What it takes on this machine is tried and said first. Each seed is a run directory that `posegen run` with the same
words would fill, to the last digit, and may go on with; stopped, the same command goes on. Runs of the same seed share
what their words agree in: an arm that knows nothing of the feedback is trained once a seed, whatever the feedbacks are.
`posegen compare` of the runs judges the differences.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from posegen.arms.registry import BEFORE
from posegen.config import compose, run_path
from posegen.devices import default_device
from posegen.errors import ConfigError, PosegenError
from posegen.experiment.forecast import Costs, Work, seconds_of
from posegen.experiment.in_process import InProcess
from posegen.experiment.measured import Measured
from posegen.experiment.opening import opened
from posegen.machine import cores, keep_freed_memory
from posegen.progress import Reporter, duration
from posegen.tracking.report.tables import table_text

LOG = ".table.log"


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


def cells_of(words: list[str], over: list[str]) -> list[list[str]]:
    """The words of each combination: `estimator=a,b` with `noise=c,d` makes four. Raises ConfigError."""
    axes = []
    for axis in over:
        key, equals, values = axis.partition("=")
        if not (key and equals and all(values.split(","))):
            raise ConfigError(f"--over {axis!r} is not KEY=VALUE,VALUE", where="--over")
        axes.append([f"{key}={value}" for value in values.split(",")])
    return [[*words, *cell] for cell in itertools.product(*axes)]


def threads_of(parallel: int) -> int:
    """Threads of each of so many runs side by side."""
    return max(1, cores() // parallel)


def tell_hours(cells: list[list[str]], seeds: int, parallel: int) -> None:
    """What each combination's runs do, and how long that takes here, each with the threads that it will have."""
    torch.set_num_threads(threads_of(parallel))
    keep_freed_memory()
    total = 0.0
    for words in cells:
        config = compose(words)
        print(f"{' '.join(words)}: trying each of its parts once ...", file=sys.stderr, flush=True)
        work = Work.of(config)
        parts = seconds_of(work, Costs.measured(config, default_device()))
        total += sum(parts.values()) * seeds
        told = ", ".join(f"{name} {duration(spent)}" for name, spent in parts.items() if spent)
        print(
            f"{' '.join(words)}: a seed renders {work.rows} pictures and takes {work.steps} steps: {told}", flush=True
        )
    shared = ", less what runs of a seed have in common" if len(cells) > 1 else ""
    told = duration(total / parallel)
    print(f"{len(cells) * seeds} runs take about {told} here, without lifting a target{shared}", flush=True)


@dataclass(frozen=True)
class Run:
    """One seed of one combination."""

    words: list[str]
    seed: int
    path: Path

    @staticmethod
    def of(words: list[str]) -> Run:
        config = compose(words)
        return Run(words, config.seed, run_path(config))


def begun(run: Run, done: list[Run], threads: int) -> subprocess.Popen[bytes]:
    """A process that makes one run. It takes over what finished runs of the same seed have made of the same words."""
    kin = [other.path.name for other in done if other.seed == run.seed]
    call = [sys.executable, __file__, *run.words, *([f"run.kin=[{','.join(kin)}]"] if kin else []), "--one"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    run.path.mkdir(parents=True, exist_ok=True)
    print(f"begun {run.path}", flush=True)
    with (run.path / LOG).open("a", encoding="utf-8") as log:
        return subprocess.Popen(call, env=environment, stdout=log, stderr=subprocess.STDOUT)


def run_all(calls: list[list[str]], parallel: int) -> list[Path]:
    """Every run in a process of its own, `parallel` at a time. Raises RuntimeError where one fails."""
    waiting = [Run.of(words) for words in calls]
    paths = [run.path for run in waiting]
    threads = threads_of(parallel)
    working: list[tuple[subprocess.Popen[bytes], Run]] = []
    done: list[Run] = []
    failed = []
    try:
        while waiting or working:
            while waiting and len(working) < parallel:
                run = waiting.pop(0)
                working.append((begun(run, done, threads), run))
            for process, run in list(working):
                if process.poll() is None:
                    continue
                working.remove((process, run))
                if process.returncode:
                    failed.append(f"{run.path.name} ended with {process.returncode}: see {run.path / LOG}")
                else:
                    done.append(run)
                print(f"{'failed' if process.returncode else 'done '} {run.path}", flush=True)
            time.sleep(0.5)
    finally:
        for process, _ in working:
            process.terminate()
        for process, _ in working:
            process.wait()
    if failed:
        raise RuntimeError("\n".join(failed))
    return paths


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="key=value", help="the configuration, as for posegen run")
    parser.add_argument("--seeds", default="0-4", help="such as 0-4 or 0,3,7")
    parser.add_argument("--over", nargs="+", default=[], metavar="KEY=A,B", help="a table of each value")
    parser.add_argument("--parallel", type=int, default=1, help="runs side by side")
    parser.add_argument("--plan", action="store_true", help="says what it does and takes, and ends")
    parser.add_argument("--one", action="store_true", help="only the seed that the words name, in this process")
    given = parser.parse_args()
    started = time.monotonic()
    try:
        if given.one:
            keep_freed_memory()
            run_seed(given.words)
            return 0
        seeds, cells, parallel = seeds_of(given.seeds), cells_of(given.words, given.over), max(1, given.parallel)
        tell_hours(cells, len(seeds), parallel)
        if given.plan:
            return 0
        paths = run_all([[*words, f"seed={seed}"] for words in cells for seed in seeds], parallel)
    except (PosegenError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(paths)} runs in {duration(time.monotonic() - started)}")
    print("next: posegen compare", *paths)
    return 0


if __name__ == "__main__":
    sys.exit(main())
