"""`posegen` alone: where one stands. The last runs, what is at work, and what to type next."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from posegen import __version__
from posegen.errors import PosegenError
from posegen.experiment.going_on import another, go_on
from posegen.experiment.run_folders import name_in, runs_in
from posegen.experiment.run_record import stage_of
from posegen.files.lock import holder
from posegen.files.state import read_json

MOST = 6  # runs that are named
FINISHED, AT_WORK, STOPPED = "finished", "at work", "stopped"


@dataclass(frozen=True)
class Standing:
    """How a run stands.

    Attributes:
        state: FINISHED, AT_WORK or STOPPED.
        said: what it found, who works on it, or how far it came.
        command: what goes on with it, or shows it.
    """

    name: str
    path: Path
    state: str
    said: str
    command: str
    changed: float  # seconds of the epoch


def standings(outputs: Path) -> list[Standing]:
    """Every run of a folder, the one that changed last first."""
    return sorted((standing(run, outputs) for run in runs_in(outputs)), key=lambda found: -found.changed)


def standing(path: Path, outputs: Path) -> Standing:
    """How a run in a folder of outputs stands."""
    name, working = name_in(outputs, path), holder(path)
    markers = list((path / "stages").glob("*.json"))
    changed = max((file.stat().st_mtime for file in [path, *markers]), default=0.0)
    if working is not None:
        said = f"process {working.get('pid')} on {working.get('host')} since {working.get('since')}"
        return Standing(name, path, AT_WORK, f"{said}; {len(markers)} stages done", "posegen ui", time.time())
    summary = path / "summary.json"
    if summary.is_file():
        return Standing(name, path, FINISHED, _found(path), f"posegen show {name}", summary.stat().st_mtime)
    done = ", ".join(stage_of(file) for file in sorted(markers, key=lambda f: f.stat().st_mtime)[-1:])
    said = f"{len(markers)} stages done" + (f", the last is {done}" if done else "")
    return Standing(name, path, STOPPED, said, go_on(path), changed)


def _found(path: Path) -> str:
    """The finding of a finished run in a few words."""
    from posegen.tracking.report.findings import average_change, signed
    from posegen.tracking.report.run_directory import RunDirectory
    from posegen.tracking.report.style import arm_look

    run = RunDirectory(path)
    if run.summary_problem is not None:
        return str(run.summary_problem)
    change = average_change(run.summary, run.method) if run.method else None
    if change is None:
        return "measured before; nothing was fine-tuned"
    return f"{arm_look(run.method or '').label} {signed(change.value)} % MPJPE in the mean of the benchmarks"


def ago(seconds: float) -> str:
    """A time that has passed, in one unit."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit == "min" and seconds >= length):
            return f"{seconds / length:.0f} {unit} ago"
    return "now"


def text(outputs: Path, found: Sequence[Standing]) -> str:
    """What is printed."""
    lines = [f"posegen {__version__}: find the poses, cameras and looks on which a 3D human pose estimator fails, and "
             "mend it.", ""]  # fmt: skip
    if not found:
        lines += [f"no run in {outputs}/ yet. next:",
                  "  posegen run experiment=quickstart_target  # the quickstart: ten minutes on two cores",
                  "  posegen doctor                            # what is found here, what is missing"]  # fmt: skip
    else:
        lines.append(f"runs in {outputs}/, the newest first:")
        width = max(len(run.name) for run in found[:MOST])
        for run in found[:MOST]:
            when = "" if run.state == AT_WORK else f" {ago(time.time() - run.changed)}"
            lines.append(f"  {run.name:<{width}}  {run.state}{when}: {run.said}")
        if len(found) > MOST:
            lines.append(f"  and {len(found) - MOST} more")
        lines += ["", "next:", *(f"  {line}" for line in _next(outputs, found))]
    return "\n".join([*lines, "", "posegen --help lists the commands, posegen help KEY tells what a setting means."])


def _next(outputs: Path, found: Sequence[Standing]) -> list[str]:
    newest = found[0]
    finished = [run for run in found if run.state == FINISHED]
    where = "" if outputs == Path("outputs") else f" --outputs {outputs}"
    lines = [f"{newest.command}{where if newest.state != STOPPED else ''}"]
    if newest.state == FINISHED:
        report = newest.path / "report.html"
        lines += [f"open {report}   # pictures, intervals, where it got better or worse"] if report.is_file() else []
        lines.append(f"{another(newest.path, _seed(newest.path) + 1)}   # another seed, then: posegen compare")
    if len(finished) > 1:
        lines.append(f"posegen compare{where}   # {len(finished)} finished runs side by side")
    if newest.state != AT_WORK:
        lines.append(f"posegen ui{where}   # curves, galleries and tables in MLflow")
    return lines


def _seed(path: Path) -> int:
    try:
        seed = read_json(path / "summary.json", "the summary").get("seed")
    except (PosegenError, OSError):
        return 0
    return seed if isinstance(seed, int) else 0


def main(argv: Sequence[str] = ()) -> int:
    """`posegen` and `posegen --json`; returns the exit status."""
    outputs = Path("outputs")
    found = standings(outputs)
    if "--json" in argv:
        told = [{"run": run.name, "path": str(run.path), "state": run.state, "said": run.said, "next": run.command}
                for run in found]  # fmt: skip
        sys.stdout.write(json.dumps({"posegen": __version__, "runs": told}, indent=1) + "\n")
    else:
        sys.stdout.write(text(outputs, found) + "\n")
    return 0
