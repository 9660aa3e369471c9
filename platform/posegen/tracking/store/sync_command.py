"""`posegen track sync [RUN ...]`: sends to MLflow what waits in run directories, where a server was away."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from posegen.errors import PosegenError
from posegen.experiment.run_folders import find_run, resolve_run, runs_in
from posegen.files.secrets import MASK, masked_text
from posegen.tracking.report.run_directory import RunDirectory
from posegen.tracking.store.mlflow_store import TrackingError
from posegen.tracking.store.publish import open_tracker, publish
from posegen.tracking.store.shown import experiment_name
from posegen.tracking.store.spool import FOLDER, Spool


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="posegen track", description="Sends to MLflow what it was not there for; what "
                                   "it has is not sent twice.")  # fmt: skip
    made.add_argument("action", choices=["sync"])
    made.add_argument("runs", nargs="*", metavar="RUN", help="a run directory, or a name in the outputs folder "
                      "(default: all runs for which something waits)")  # fmt: skip
    made.add_argument("--outputs", type=Path, default=Path("outputs"), help="the folder of runs (default: outputs)")
    made.add_argument("--uri", help="the store (default: the run's own, MLFLOW_TRACKING_URI, the file in the outputs)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 with the reason on standard error."""
    options = parser().parse_intermixed_args(argv)
    try:
        outputs = options.outputs
        runs = [find_run(word, outputs) or resolve_run(word, outputs) for word in options.runs] or waiting_runs(outputs)
        for run in runs:
            _sync(run, options.outputs, options.uri)
    except PosegenError as error:
        sys.stderr.write(f"posegen track: {masked_text(str(error))}\n")
        return 2
    if not runs:
        sys.stdout.write(f"nothing waits for MLflow in {options.outputs}\n")
    sys.stdout.write("next: posegen ui\n")
    return 0


def waiting_runs(outputs: Path) -> list[Path]:
    """The runs in a folder for which something waits, in the order of their names."""
    return [run for run in runs_in(outputs) if not Spool(run / FOLDER).empty]


def _sync(run_dir: Path, outputs: Path, uri: str | None) -> None:
    run = RunDirectory(run_dir)
    settings = run.config.get("tracking")
    settings = settings if isinstance(settings, dict) else {}
    own = settings.get("uri")
    if uri is None and isinstance(own, str) and own:
        if MASK in own:  # its password is not kept
            raise TrackingError("the run's store needs its password again", where=own,
                                next_command=f"posegen track sync {run_dir} --uri URI")  # fmt: skip
        uri = own
    name = experiment_name(str(settings.get("experiment") or "posegen"))
    tracker = open_tracker(run_dir, outputs, name, uri, settings.get("artifacts"))
    again = f"posegen track sync {run_dir}"
    if not tracker.drain():
        raise TrackingError(f"MLflow does not answer; {len(Spool(run_dir / FOLDER).waiting())} things wait",
                            where=masked_text(tracker.uri), next_command=again)  # fmt: skip
    if run.summary:  # a run that has ended: whatever else the store lacks
        publish(run_dir, tracker=tracker)
        tracker.drain()
    if tracker.missed:
        raise TrackingError(f"MLflow did not take {len(tracker.missed)} things, the first {tracker.missed[0]}",
                            where=masked_text(tracker.uri), next_command=again)  # fmt: skip
    sys.stdout.write(f"{run_dir}: in {masked_text(tracker.uri)}\n")
