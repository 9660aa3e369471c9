"""How much of the machine stands idle while a `posegen run` trains, beside what its trainers wait for rows.

    python tests/speed/idle.py experiment=quickstart_target

A trainer that waits while all cores are at work waits for a faster machine, not for a better plan: others draw then.
Cores that stand idle while it waits are lost. Only an otherwise idle machine shows that.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from run import StageTime, breakdown

EVERY_S = 0.5


@dataclass(frozen=True)
class Sample:
    """Processor time of all cores since the machine's start."""

    at: float  # by the clock
    idle_s: float
    all_s: float

    @staticmethod
    def now() -> Sample:
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        return Sample(time.time(), idle, sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0))


def idle_share(samples: list[Sample], stages: list[StageTime]) -> float:
    """Of all cores, while any of the stages was at work."""
    idle = whole = 0.0
    for before, after in itertools.pairwise(samples):
        middle = (before.at + after.at) / 2
        if any(stage.ended - stage.seconds <= middle <= stage.ended for stage in stages):
            idle += after.idle_s - before.idle_s
            whole += after.all_s - before.all_s
    return idle / whole


def main() -> int:
    samples, stop = [Sample.now()], threading.Event()

    def watch() -> None:
        while not stop.wait(EVERY_S):
            samples.append(Sample.now())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        done = subprocess.run([Path(sys.executable).with_name("posegen"), "run", *sys.argv[1:]], check=False)
    finally:
        stop.set()
        watching.join()
    if done.returncode:
        return done.returncode
    stages = breakdown(Path("outputs/latest").resolve())
    for kind in ("generate", "finetune"):
        of_kind = [stage for stage in stages if stage.name.startswith(kind) and stage.trained is not None]
        if of_kind:
            seconds, waited = sum(s.seconds for s in of_kind), sum(s.waited or 0 for s in of_kind)
            print(f"{kind}: {len(of_kind)} trainings of {seconds:.1f} s together, of which they wait {waited:.1f} s "
                  f"({waited / seconds:.1%}); cores idle meanwhile {idle_share(samples, of_kind):.1%}")  # fmt: skip
    print(f"all stages: cores idle {idle_share(samples, stages):.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
