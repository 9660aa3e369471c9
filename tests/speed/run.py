"""Where the seconds of a `posegen run` went, and what the same work takes without Ray.

    posegen run [OVERRIDES]
    python tests/speed/run.py outputs/latest [--alone] [--json FILE]

The breakdown is read from what the run left: each stage's seconds, and of a training the seconds in which it trained,
waited for rows, and did neither (starting workers, reports, checkpoints, the end). Where arms are at work side by side
the sum of their stages is more than a clock on the wall shows, which stands in the last line. With --alone the stages
before the evaluations are done again in this process by the plain loop (posegen.experiment.in_process), in a folder of
their own, once with as many threads as there are cores and once with the one thread that a trainer has, which gives the
run's figures to the last digit: the ratios of wall times are the engine's price. All of it means something only on an
otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posegen.experiment.stages import wall_seconds
from posegen.files.state import read_history
from posegen.machine import cores, keep_freed_memory

FIRST = ("dataset", "generate", "candidates", "finetune")  # stages that workers do


@dataclass(frozen=True)
class StageTime:
    """Seconds of one stage; `trained` and `waited` are None where nothing is trained."""

    name: str
    seconds: float
    trained: float | None = None
    waited: float | None = None
    ended: float = 0.0  # by the clock

    @property
    def rest(self) -> float | None:
        return None if self.trained is None or self.waited is None else self.seconds - self.trained - self.waited


def breakdown(run: Path) -> list[StageTime]:
    """The stages of a run in the order in which they ended."""
    found = []
    for file in sorted((run / "stages").glob("*.json"), key=lambda file: file.stat().st_mtime):
        marker = json.loads(file.read_text())
        name, ended = str(marker["stage"]), file.stat().st_mtime
        history = run / name / "history.jsonl"
        rows = read_history(history) if history.is_file() else []
        timed = [row for row in rows if "worked_s" in row]
        if not timed or "made_in" in marker:  # taken over from another run
            found.append(StageTime(name, marker["seconds"], ended=ended))
            continue
        trained, waited = (sum(row[key] for row in timed) for key in ("worked_s", "waited_s"))
        found.append(StageTime(name, marker["seconds"], trained, waited, ended))
    return found


def on_the_wall(stages: list[StageTime]) -> float:
    """Seconds in which any of the stages was at work."""
    return wall_seconds((stage.ended - stage.seconds, stage.ended) for stage in stages)


def table(stages: list[StageTime]) -> str:
    """A line a stage, and their sums."""

    def figure(value: float | None) -> str:
        return f"{'':>9}" if value is None else f"{value:9.1f}"

    lines = [f"{'stage':<34}{'s':>9}{'trained':>9}{'waited':>9}{'rest':>9}"]
    lines += [
        f"{s.name:<34}{s.seconds:9.1f}{figure(s.trained)}{figure(s.waited)}{figure(s.rest)}" for s in stages
    ]  # fmt: skip
    trainings = [s for s in stages if s.rest is not None]
    sums = [sum(s.seconds for s in stages), *(sum(getattr(s, k) for s in trainings) for k in ("trained", "waited"))]
    lines.append(f"{'all':<34}" + "".join(f"{value:9.1f}" for value in (*sums, sum(s.rest or 0 for s in trainings))))
    lines.append(f"{'on the wall':<34}{on_the_wall(stages):9.1f}")
    return "\n".join(lines)


def alone_s(words: list[str], threads: int) -> float:
    """Wall seconds of the data sets and trainings of a run, one after the other in this process."""
    import torch

    from posegen.config import compose
    from posegen.experiment.experiment import Experiment
    from posegen.experiment.in_process import InProcess

    keep_freed_memory()  # as the workers do
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment(compose([*words, f"run.outputs={folder}"]), InProcess("cpu"))
        experiment.show_target()  # lifted in this process there, too, and no work of the workers
        begun = time.perf_counter()
        for arm in experiment.arms:
            experiment.finetune(arm)
        return time.perf_counter() - begun


def overrides_of(run: Path) -> list[str]:
    """The words that the run was started with, out of the command above its configuration."""
    import shlex

    first = (run / "config.yaml").read_text().splitlines()[0].removeprefix("# ")
    kept = [word for word in shlex.split(first)[2:] if not word.startswith(("run.name=", "run.outputs="))]
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--alone", action="store_true", help="do the same work in this process, and compare")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    stages = breakdown(options.run)
    print(table(stages))
    result: dict[str, Any] = {"load": os.getloadavg()[0], "stages": [vars(s) | {"rest": s.rest} for s in stages]}
    if options.alone:
        engine = on_the_wall([stage for stage in stages if stage.name.split("/")[0] in FIRST])
        result["engine_s"] = engine
        for threads in sorted({1, cores()}, reverse=True):
            plain = alone_s(overrides_of(options.run), threads)
            result[f"alone_{threads}_s"] = plain
            told = f"stages of the workers {engine:.1f} s, alone with {threads} thread(s) {plain:.1f} s"
            print(f"{told}: {engine / plain:.2f} times")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
