"""Where the seconds of a `posegen run` went, and what the same work takes without Ray.

    posegen run [OVERRIDES]
    python tests/speed/run.py outputs/latest [--alone] [--json FILE]

The breakdown is read from what the run left: each stage's seconds, and of a training the seconds in which it trained,
waited for rows, and did neither (starting workers, reports, checkpoints, the end). With --alone the stages before the
evaluations are done again in this process by the plain loop (posegen.experiment.in_process), in a folder of their own:
the ratio of wall times is the engine's price. Both mean something only on an otherwise idle machine.
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

from posegen.files.state import read_history

FIRST = ("dataset", "generate", "mining", "candidates", "finetune")  # stages that workers do


@dataclass(frozen=True)
class StageTime:
    """Seconds of one stage; `trained` and `waited` are None where nothing is trained."""

    name: str
    seconds: float
    trained: float | None = None
    waited: float | None = None

    @property
    def rest(self) -> float | None:
        return None if self.trained is None or self.waited is None else self.seconds - self.trained - self.waited


def breakdown(run: Path) -> list[StageTime]:
    """The stages of a run in the order in which they ended."""
    found = []
    for file in sorted((run / "stages").glob("*.json"), key=lambda file: file.stat().st_mtime):
        marker = json.loads(file.read_text())
        name = str(marker["stage"])
        history = run / name / "history.jsonl"
        rows = read_history(history) if history.is_file() else []
        timed = [row for row in rows if "worked_s" in row]
        if not timed:
            found.append(StageTime(name, marker["seconds"]))
            continue
        trained, waited = (sum(row[key] for row in timed) for key in ("worked_s", "waited_s"))
        found.append(StageTime(name, marker["seconds"], trained, waited))
    return found


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
    return "\n".join(lines)


def alone_s(words: list[str]) -> float:
    """Wall seconds of the data sets and trainings of a run, one after the other in this process."""
    from posegen.config import compose
    from posegen.experiment.experiment import Experiment
    from posegen.experiment.in_process import InProcess

    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment(compose([*words, f"run.outputs={folder}"]), InProcess("cpu"))
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
        engine = sum(s.seconds for s in stages if s.name.split("/")[0] in FIRST)
        plain = alone_s(overrides_of(options.run))
        result |= {"engine_s": engine, "alone_s": plain, "price": engine / plain}
        print(f"stages of the workers {engine:.1f} s, alone {plain:.1f} s: {engine / plain:.2f} times")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
