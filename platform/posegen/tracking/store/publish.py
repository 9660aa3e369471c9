"""Puts a run directory into MLflow: one parent run, a child a stage, a child an arm (the baselines among them).

    publisher = Publisher(Tracker(outputs), run_dir)
    publisher.start(config)                  # at the start, and again when an interrupted run goes on
    publisher.stage("generate")              # when a stage has ended: what it left in the run directory
    publisher.arm("posegen")                 # curves so far; call it as often as you like
    publisher.finish()                       # report, tables, gallery; closes everything

Everything is read from the run directory and logged at most once, so that a killed run is published by calling again.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from posegen.arms.registry import in_order
from posegen.experiment.run_record import read_record
from posegen.files.secrets import masked_text
from posegen.tracking.report import plots
from posegen.tracking.report.findings import Estimate, finding_sentence, rival_sentence, rivalries
from posegen.tracking.report.gallery import Gallery
from posegen.tracking.report.pictures import TRUTH, Skeleton, Tile, contact_sheet, overlay
from posegen.tracking.report.run_directory import Missing, RunDirectory
from posegen.tracking.report.style import arm_look
from posegen.tracking.store.mlflow_store import TrackedRun, Tracker, TrackingError

log = logging.getLogger(__name__)

Method = TypeVar("Method", bound=Callable[..., None])


def _tolerant(method: Method) -> Method:
    """A store that goes away while a run is at work does not end the run: what it misses is told and kept count of."""

    @functools.wraps(method)
    def guarded(self: Publisher, *args: Any, **kwargs: Any) -> None:
        if self.tracker.breaker.open:
            self.tracker.missed.append(method.__name__)
            return
        began = time.monotonic()
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.tracker.breaker.failed(began, error)
            self.tracker.missed.append(method.__name__)
            log.warning("MLflow did not take what it was sent (the run goes on): %s", masked_text(str(error))[:300])

    return guarded  # type: ignore[return-value]


def run_key(run_dir: Path) -> str:
    """What a run is found again by: its directory's name and the id that is kept in it, so that two users' runs of one
    name stay two runs in a store that they share. Directories older than ids are known by their names alone."""
    record = read_record(run_dir)
    name = run_dir.resolve().name.replace("'", "_")
    return f"{name}-{record.id}" if record is not None and record.id else name


class Publisher:
    """The MLflow runs of one experiment.

    Args:
        tracker: the store.
        run_dir: outputs/<run>.
        key: what the parent run is found again by; `run_key` by default.
        name: what the user interface shows; the directory's name by default.

    The store is asked when this is made, and an error then is an error. What it does not take later is kept in
    `tracker.missed`, and can be sent again: `posegen track sync`.
    """

    def __init__(self, tracker: Tracker, run_dir: Path, key: str | None = None, name: str | None = None) -> None:
        self.tracker = tracker
        self.run_dir = Path(run_dir)
        self.name = name or self.run_dir.resolve().name
        self.key = key or run_key(self.run_dir)
        try:
            self.parent: TrackedRun = tracker.run(self.key, name=self.name)
        except Exception as error:
            raise TrackingError(f"the MLflow store does not answer: {masked_text(str(error).strip()[:300])}",
                                where=masked_text(tracker.uri)) from error  # fmt: skip

    def start(self, config: Mapping[str, Any], tags: Mapping[str, Any] | None = None) -> TrackedRun:
        """Logs the configuration to the parent run."""
        self.parent.params(config)
        self.parent.tags(tags or {})
        return self.parent

    def child_arm(self, arm: str) -> TrackedRun:
        """The child run of an arm, opened (again)."""
        return self.parent.child(f"arm/{arm}", name=arm_look(arm).label, kind="arm", arm=arm)

    @_tolerant
    def stage(self, stage: str) -> None:
        """Logs what stages/<stage>.json says and closes the stage's child."""
        record = RunDirectory(self.run_dir).stages().get(stage, {})
        with self.parent.child(f"stage/{stage}", name=stage, kind="stage") as child:
            numbers = {key: value for key, value in record.items() if _is_number(value)}
            child.metrics(numbers)
            child.params({key: value for key, value in record.items() if key not in numbers})

    @_tolerant
    def arm(self, arm: str, *, close: bool = False) -> None:
        """Logs an arm's curves, dataset and results as far as they are there."""
        run = RunDirectory(self.run_dir)
        child = self.child_arm(arm)
        child.params({"arm": arm})
        for stage in ("generate", "finetune"):
            for name, rows in run.histories(stage).items():
                if name == arm or name.startswith(f"{arm}-round"):
                    child.curves(rows, prefix=f"{stage}{name.removeprefix(arm)}/")
        self._dataset(run, arm, child)
        child.metrics(_arm_metrics(run, arm))
        if close:
            child.finish()

    def _dataset(self, run: RunDirectory, arm: str, child: TrackedRun) -> None:
        samples = run.samples(arm, 24)
        if isinstance(samples, Missing):
            return
        folder = self.run_dir / "dataset" / arm
        tiles = []
        for i in range(len(samples)):
            picture = overlay(samples.images[i], [Skeleton(samples.joints2d_px[i], TRUTH)], scale=2)
            azimuth, elevation = np.degrees(samples.azimuth_rad[i]), np.degrees(samples.elevation_rad[i])
            caption = f"{samples.error_at_birth_mm[i]:.0f} mm\naz {azimuth:+.0f}° el {elevation:+.0f}°"
            tiles.append(Tile(picture, caption))
        title = f"{arm_look(arm).label}: easiest to hardest at birth"
        child.image(contact_sheet(tiles, columns=8, title=title), "dataset/samples.png")
        births = run.births().get(arm, np.zeros(0))
        births = births[np.isfinite(births)]
        if len(births):
            child.metrics({"dataset/rows": len(births), "dataset/median_error_at_birth_mm": float(np.median(births))})
        child.dataset(f"{self.name}/{arm}", folder, _digest(folder), "training", rows=len(births) or None)

    @_tolerant
    def finish(self, report: Path | None = None) -> None:
        """Everything that is left: stages, arms, tables, figures, the gallery, the report; closes all runs."""
        run = RunDirectory(self.run_dir)
        for stage in run.stages():
            self.stage(stage)
        for arm in run.arms:
            self.arm(arm, close=True)
        self.parent.note(f"{finding_sentence(run)}\n\n{rival_sentence(run, rivalries(run))}")
        self.parent.tags({key: run.summary[key] for key in ("experiment", "seed", "git_commit") if key in run.summary})
        self.parent.tags({"mlflow.source.name": "posegen run", "mlflow.source.type": "LOCAL"})
        self.parent.metrics(
            {f"average/{arm}/relative_mpjpe": cell["relative_mpjpe"]["value"] for arm, cell in _average(run).items()}
        )
        self.parent.metrics({f"seconds/{stage}": s for stage, s in run.summary.get("timings_s", {}).items()})
        self._tables(run)
        self._figures(run)
        if isinstance(run.gallery, Gallery):
            self._gallery(run.gallery)
        for path in (
            report or self.run_dir / "report.html",
            self.run_dir / "summary.json",
            self.run_dir / "config.yaml",
        ):
            if path.is_file():
                self.parent.artifact(path)
        self.parent.finish()

    @_tolerant
    def fail(self, reason: str) -> None:
        """Closes the parent as FAILED, the children that are open as well."""
        self._close("FAILED")
        self.parent.fail(reason)

    @_tolerant
    def kill(self) -> None:
        """Closes all that is open as KILLED (Ctrl-C); the next start opens the same runs again."""
        self._close("KILLED")
        self.parent.kill()

    def _close(self, status: str) -> None:
        for child in self.tracker.children(self.parent):
            if self.tracker.client.get_run(child.id).info.status == "RUNNING":
                child.close(status)  # type: ignore[arg-type]

    def _tables(self, run: RunDirectory) -> None:
        parts = {"benchmarks": "changes_against_before", "watched": "watched_changes_against_before"}
        for part, changes_name in parts.items():
            columns: dict[str, list[Any]] = {
                name: [] for name in ("benchmark", "arm", "metric", "value", "low", "high")
            }
            changes: dict[str, list[Any]] = {name: [] for name in columns}
            for benchmark, by_arm in run.summary.get(part, {}).items():
                for table, kind in ((columns, "arms"), (changes, "difference")):
                    for arm in in_order(by_arm.get(kind, {})):
                        for metric, cell in by_arm[kind][arm].items():
                            cells = (benchmark, arm, metric, cell.get("value"), cell.get("low"), cell.get("high"))
                            for name, value in zip(columns, cells, strict=True):
                                table[name].append(value)
            if columns["arm"]:
                self.parent.table(part, columns)
                self.parent.table(changes_name, changes)

    def _figures(self, run: RunDirectory) -> None:
        benchmarks = run.summary.get("benchmarks", {})
        if benchmarks:
            values = {
                name: {
                    arm: cells["mpjpe_mm"]
                    for arm, cells in by_arm.get("arms", {}).items()
                    if Estimate.of(cells.get("mpjpe_mm"))
                }
                for name, by_arm in benchmarks.items()
            }
            self.parent.figure(plots.benchmark_dots(values, run.arms), "plots/benchmarks.png")
        births = run.births()
        if births:
            self.parent.figure(plots.error_at_birth(births), "plots/error_at_birth.png")

    def _gallery(self, gallery: Gallery) -> None:
        for name, indices in (("fixed", gallery.most_fixed()), ("not_fixed", gallery.not_fixed())):
            if indices:
                title = f"{name.replace('_', ' ')}: blue is the truth, orange the prediction; left before, right after"
                self.parent.image(gallery.sheet(indices[:12], title), f"gallery/{name}.png")


def publish(run_dir: Path, outputs: Path | None = None, tracker: Tracker | None = None) -> str:
    """Publishes a whole run directory at once and returns the parent's MLflow id."""
    run_dir = Path(run_dir)
    tracker = tracker or Tracker(outputs or run_dir.resolve().parent)
    run = RunDirectory(run_dir)
    publisher = Publisher(tracker, run_dir, name=run.name)
    publisher.start(run.config)
    publisher.finish()
    return publisher.parent.id


def finish_patiently(
    publisher: Publisher,
    report: Path | None,
    say: Callable[[str], None],
    patience_s: float = 90.0,
    pause_s: float = 15.0,
) -> bool:
    """Sends everything at the end of a run, again where a server was away at some time; whether it has everything."""
    tracker = publisher.tracker
    began = time.monotonic()
    while True:
        tracker.missed.clear()
        tracker.breaker.close()
        publisher.finish(report)
        if not tracker.missed:
            return True
        if not tracker.uri.startswith(("http://", "https://")) or time.monotonic() - began > patience_s:
            return False
        say(f"the MLflow server does not answer; trying again for {patience_s:.0f} s")
        time.sleep(pause_s)


def _arm_metrics(run: RunDirectory, arm: str) -> dict[str, float]:
    """Final numbers under names that are the same in every arm, so that MLflow's compare page lines them up."""
    numbers: dict[str, float] = {}
    for benchmark, by_arm in [*run.summary.get("benchmarks", {}).items(), *run.summary.get("watched", {}).items()]:
        for metric, cell in by_arm.get("arms", {}).get(arm, {}).items():
            estimate = Estimate.of(cell)
            if estimate is not None:
                numbers[f"{benchmark}/{metric}"] = estimate.value
    average = _average(run).get(arm)
    if average is not None:
        numbers["average/relative_mpjpe"] = average["relative_mpjpe"]["value"]
    return numbers


def _average(run: RunDirectory) -> dict[str, Any]:
    average = run.summary.get("average", {})
    return {arm: cell for arm, cell in average.items() if Estimate.of(cell.get("relative_mpjpe")) is not None}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _digest(folder: Path) -> str:
    """Of the names and sizes of the shards: enough to tell two datasets apart without reading them."""
    import hashlib

    names = [f"{path.name}:{path.stat().st_size}" for path in sorted(folder.glob("part-*.parquet"))]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
