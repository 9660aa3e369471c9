"""`posegen track sync RUN ...`: sends finished runs to MLflow again, where a server was away when they ended."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from posegen.errors import PosegenError
from posegen.experiment.finished import resolve_run
from posegen.files.secrets import MASK, masked_text
from posegen.tracking.report.run_directory import RunDirectory
from posegen.tracking.store.mlflow_store import Tracker, TrackingError
from posegen.tracking.store.publish import publish


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="posegen track", description="Sends finished runs to MLflow again; what it has "
                                   "is not sent twice.")  # fmt: skip
    made.add_argument("action", choices=["sync"])
    made.add_argument("runs", nargs="+", metavar="RUN", help="a run directory, or a name in the outputs folder")
    made.add_argument("--outputs", type=Path, default=Path("outputs"), help="the folder of runs (default: outputs)")
    made.add_argument("--uri", help="the store (default: the run's own, MLFLOW_TRACKING_URI, the file in the outputs)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 with the reason on standard error."""
    options = parser().parse_args(argv)
    try:
        for word in options.runs:
            _sync(resolve_run(word, options.outputs), options.outputs, options.uri)
    except PosegenError as error:
        sys.stderr.write(f"posegen track: {masked_text(str(error))}\n")
        return 2
    sys.stdout.write("next: posegen ui\n")
    return 0


def _sync(run_dir: Path, outputs: Path, uri: str | None) -> None:
    settings = RunDirectory(run_dir).config.get("tracking")
    settings = settings if isinstance(settings, dict) else {}
    own = settings.get("uri")
    if uri is None and isinstance(own, str) and own:
        if MASK in own:  # its password is not kept
            raise TrackingError("the run's store needs its password again", where=own,
                                next_command=f"posegen track sync {run_dir} --uri URI")  # fmt: skip
        uri = own
    tracker = Tracker(outputs, str(settings.get("experiment") or "posegen"), uri)
    publish(run_dir, tracker=tracker)
    if tracker.missed:
        raise TrackingError(f"MLflow did not take {len(tracker.missed)} things, the first {tracker.missed[0]}",
                            where=masked_text(tracker.uri), next_command=f"posegen track sync {run_dir}")  # fmt: skip
    sys.stdout.write(f"{run_dir}: in {masked_text(tracker.uri)}\n")
