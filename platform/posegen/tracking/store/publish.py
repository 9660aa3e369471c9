"""Puts a run directory into MLflow: one parent run, a child a stage, a child an arm (the baselines among them).

    publisher = Publisher(Tracker(outputs, spool=...), run_dir)
    publisher.start(config)                  # at the start, and again when an interrupted run goes on
    with publisher.following(10.0):          # load, curves and sheets as they come
        publisher.stage("generate")          # when a stage has ended: what it left in the run directory
        publisher.arm("posegen")             # curves so far; call it as often as you like
        publisher.finish()                   # report, tables, gallery, models; closes everything

Everything is read from the run directory and logged at most once, so that a killed run is published by calling again.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from posegen.adversarial.alarms import alarms_of, loss_weights
from posegen.arms.registry import BEFORE, in_order
from posegen.experiment.run_record import read_record
from posegen.experiment.stages import stage_times
from posegen.files.pictures import read_rgb
from posegen.files.secrets import masked_text
from posegen.files.state import read_history
from posegen.tracking.report import plots
from posegen.tracking.report.findings import (
    Estimate,
    finding_sentence,
    kept_sentence,
    rival_sentence,
    rivalries,
    unmoved_sentence,
)
from posegen.tracking.report.formats import markdown
from posegen.tracking.report.gallery import Gallery
from posegen.tracking.report.pictures import LEFT_SIDE, TRUTH, Skeleton, Tile, contact_sheet, overlay
from posegen.tracking.report.run_directory import Missing, RunDirectory, is_arm
from posegen.tracking.report.style import arm_look
from posegen.tracking.report.tables import table_blocks
from posegen.tracking.store import datasets
from posegen.tracking.store.arm_account import (
    SHARED_TAGS,
    arm_metrics,
    arm_note,
    arm_params,
    arm_tags,
    is_of_arm,
    parent_metrics,
    run_tags,
    typed_config,
)
from posegen.tracking.store.champion import RULE
from posegen.tracking.store.following import LOAD_FILE, MachineLoad, NewRows, every
from posegen.tracking.store.mlflow_store import Tracker, TrackingError
from posegen.tracking.store.models_account import send_models
from posegen.tracking.store.spool import FOLDER
from posegen.tracking.store.tracked_run import TrackedRun

log = logging.getLogger(__name__)

Method = TypeVar("Method", bound=Callable[..., None])
# Curves of all arms that the parent shows as well, each in a chart of its own under one heading.
PARENT_CURVES = {
    "generate": ("error_mm", "meter_nearest_mm", "meter_diversity_mm", "feedback_gate"),
    "finetune": ("loss", "held_generated", "held_source"),
}


def _tolerant(method: Method) -> Method:
    """What goes wrong in telling a run does not end it: it is logged, and kept count of."""

    @functools.wraps(method)
    def guarded(self: Publisher, *args: Any, **kwargs: Any) -> None:
        with self.telling:
            try:
                method(self, *args, **kwargs)
            except Exception as error:
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

    What the store does not take waits in the tracker's spool, where it has one; see posegen.tracking.store.spool.
    """

    def __init__(self, tracker: Tracker, run_dir: Path, key: str | None = None, name: str | None = None) -> None:
        self.tracker = tracker
        self.run_dir = Path(run_dir)
        self.name = name or self.run_dir.resolve().name
        self.key = key or run_key(self.run_dir)
        self.telling = threading.RLock()  # the run and who follows it
        self._rows = NewRows()
        self._sheets: set[Path] = set()
        self._children: dict[str, TrackedRun] = {}
        self._shown: dict[str, list[Path]] = {}  # shards of an arm that were told, of all rounds
        try:
            self.parent: TrackedRun = tracker.run(self.key, name=self.name)
        except Exception as error:
            raise TrackingError(f"the MLflow store does not answer: {masked_text(str(error).strip()[:300])}",
                                where=masked_text(tracker.uri)) from error  # fmt: skip

    def start(self, config: Mapping[str, Any], tags: Mapping[str, Any] | None = None) -> TrackedRun:
        """Logs the configuration to the parent run."""
        self.parent.params(config)
        estimator = config.get("estimator")
        known = {"seed": config.get("seed"), "experiment": config.get("experiment_name")}
        known["estimator"] = estimator.get("name") if isinstance(estimator, Mapping) else None
        known = {key: value for key, value in known.items() if value is not None}
        self.parent.tags({"mlflow.source.name": "posegen run", "mlflow.source.type": "LOCAL", **known, **(tags or {})})
        return self.parent

    def child_arm(self, arm: str) -> TrackedRun:
        """The child run of an arm, opened (again)."""
        if arm not in self._children:
            run = RunDirectory(self.run_dir)
            times = self._times(run, arm)
            shared = {key: value for key, value in run_tags(run).items() if key in SHARED_TAGS}
            self._children[arm] = self.parent.child(
                f"arm/{arm}", name=arm_look(arm).label, kind="arm", start_s=times[0] if times else None,
                **{**shared, "arm": arm},
            )  # fmt: skip
        return self._children[arm]

    def _times(self, run: RunDirectory, arm: str) -> tuple[float, float] | None:
        """When the first finished stage of an arm began, and when the last ended."""
        found = [span for stage, span in stage_times(self.run_dir, run.stages()).items() if is_of_arm(stage, arm)]
        return (min(begin for begin, _ in found), max(end for _, end in found)) if found else None

    # -- while it is at work -------------------------------------------------------------------------------------

    @contextmanager
    def following(self, seconds: float) -> Iterator[None]:
        """Tells the machine's load, curves and sheets as they come, and sends what waits, beside what is done here."""
        load = MachineLoad(self.run_dir / LOAD_FILE)

        def look() -> None:
            load.sample()
            self.look()
            self.tracker.drain()

        with every(seconds, look):
            yield

    @_tolerant
    def look(self) -> None:
        """Tells what is new since the last look."""
        self.parent.curves(self._rows.of(self.run_dir / LOAD_FILE))
        for stage in ("generate", "finetune"):
            for file in sorted((self.run_dir / stage).glob("*/history.jsonl")):
                if rows := self._rows.of(file):
                    self._curves(stage, file.parent.name, rows)
        for file in sorted((self.run_dir / "generate").glob("*/gallery/step-*.png")):
            if file not in self._sheets:
                self._sheets.add(file)
                folder = file.parent.parent.name
                sheet = read_rgb(file, turned=False, what="a sheet of generated people")
                round_ = folder.removeprefix(_arm_of(folder)).lstrip("-")
                key = " ".join(word for word in ("generated people", round_) if word)
                self.child_arm(_arm_of(folder)).picture(sheet, key, int(file.stem.removeprefix("step-")))

    def _curves(self, stage: str, folder: str, rows: list[dict[str, Any]]) -> None:
        """Rows of a history, to its arm's run and the main ones of them to the parent's."""
        arm = _arm_of(folder)
        self.child_arm(arm).curves(rows, prefix=f"{stage}{folder.removeprefix(arm)}/")
        for name in PARENT_CURVES[stage]:
            told = [
                {"step": row["step"], "time_s": row.get("time_s"), folder: row[name]} for row in rows if name in row
            ]
            self.parent.curves(told, prefix=f"{stage} {name}/")

    @_tolerant
    def stage(self, stage: str) -> None:
        """Logs what stages/<stage>.json says and closes the stage's child."""
        self.look()
        stages = RunDirectory(self.run_dir).stages()
        record = stages.get(stage, {})
        begun, ended = stage_times(self.run_dir, stages).get(stage, (None, None))
        child = self.parent.child(f"stage/{stage}", name=stage, kind="stage", start_s=begun)
        numbers = {key: value for key, value in record.items() if _is_number(value)}
        child.metrics(numbers)
        child.params({key: value for key, value in record.items() if key not in numbers})
        child.close("FINISHED", ended)
        kind, _, folder = stage.partition("/")
        if kind == "generate":
            self._alarms(folder)

    def _alarms(self, folder: str) -> None:
        """Alarms of a generator's training, as tags of its arm's run and of the parent."""
        run = RunDirectory(self.run_dir)
        rows = read_history(self.run_dir / "generate" / folder / "history.jsonl", log.debug)
        found = alarms_of(rows, loss_weights(run.config))
        told = {name: "; ".join(str(a) for a in found if a.name == name) for name in {alarm.name for alarm in found}}
        self.child_arm(_arm_of(folder)).tags({f"alarm.{name}": text for name, text in told.items()})
        self.parent.tags({f"alarm.{name}.{folder}": text for name, text in told.items()})

    @_tolerant
    def arm(self, arm: str, *, close: bool = False, run: RunDirectory | None = None) -> None:
        """Logs an arm's curves, dataset and results as far as they are there, or as `run` has read them."""
        run = run or RunDirectory(self.run_dir)
        child = self.child_arm(arm)
        child.params(arm_params(run, arm))
        child.tags(arm_tags(run, arm))
        child.note(arm_note(run, arm))
        self.look()
        self._dataset(run, arm, child)
        for result in run.results.get(arm, {}).values():
            child.dataset(datasets.benchmark(result), "evaluation")
        child.metrics(arm_metrics(run, arm))
        times = self._times(run, arm)
        if times is not None:
            load = read_history(self.run_dir / LOAD_FILE, log.debug)
            child.curves([row for row in load if times[0] <= row.get("time_s", 0.0) <= times[1]])
        if close:
            child.close("FINISHED", times[1] if times is not None else None)
            self._children.pop(arm, None)

    def _dataset(self, run: RunDirectory, arm: str, child: TrackedRun) -> None:
        folders = sorted(f for f in (self.run_dir / "dataset").glob(f"{arm}*") if is_of_arm(f.name, arm))
        parts = [part for folder in folders for part in run.parts(folder.name)]
        if self._shown.get(arm) == parts:
            return
        samples = run.samples(arm, 24)
        if isinstance(samples, Missing):
            return
        tiles = []
        for i in range(len(samples)):
            picture = overlay(samples.images[i], [Skeleton(samples.joints2d_px[i], TRUTH)], scale=2)
            azimuth, elevation = np.degrees(samples.azimuth_rad[i]), np.degrees(samples.elevation_rad[i])
            caption = f"{samples.error_at_birth_mm[i]:.0f} mm\naz {azimuth:+.0f}° el {elevation:+.0f}°"
            tiles.append(Tile(picture, caption))
        title = f"{arm_look(arm).label}: easiest to hardest at birth"
        child.image(contact_sheet(tiles, columns=8, title=title), "dataset/samples.png")
        births = run.births_of(arm)
        known = births[np.isfinite(births)]
        if len(known):
            child.metrics({"dataset/rows": len(births), "dataset/median_error_at_birth_mm": float(np.median(known))})
        for folder in folders:
            record = datasets.generated(f"{self.name}/{folder.name}", folder, births)
            if record is not None:
                child.dataset(record, "training")
        self._shown[arm] = parts

    # -- at the end ----------------------------------------------------------------------------------------------

    @_tolerant
    def finish(self, report: Path | None = None) -> None:
        """Everything that is left: stages, arms, tables, figures, the gallery, models, the report; closes all runs."""
        run = RunDirectory(self.run_dir)
        for stage in run.stages():
            self.stage(stage)
        for arm in run.arms:
            self.arm(arm, run=run)
        for result in run.results.get(BEFORE, {}).values():
            self.parent.dataset(datasets.benchmark(result), "evaluation")
        won = self._models(run)
        self.parent.note(_note(run, won))
        self.parent.tags(run_tags(run) | ({"champion": won, "champion.rule": RULE} if won else {}))
        self.parent.metrics(parent_metrics(run))
        self.parent.metrics({f"seconds/{stage}": s for stage, s in run.summary.get("timings_s", {}).items()})
        self._tables(run)
        self._figures(run)
        if isinstance(run.gallery, Gallery):
            self._gallery(run.gallery)
        atlas = self.run_dir / "atlas" / "atlas.html"
        for path in (
            report or self.run_dir / "report.html",
            self.run_dir / "summary.json",
            self.run_dir / "config.yaml",
            atlas,
        ):
            if path.is_file():
                self.parent.artifact(path)
        for arm in run.arms:
            times = self._times(run, arm)
            self.child_arm(arm).close("FINISHED", times[1] if times is not None else None)
        summary = self.run_dir / "summary.json"
        self.parent.close("FINISHED", summary.stat().st_mtime if summary.is_file() else None, children=True)
        self._children.clear()

    def _models(self, run: RunDirectory) -> str | None:
        """Estimators into the registry; the arm that won."""
        config = typed_config(run)
        if config is None:
            return None
        try:
            return send_models(run, config, self.parent, self.child_arm)
        except Exception as error:  # all else of the run is told all the same
            self.tracker.missed.append("models")
            log.warning("the run's estimators are not in MLflow's registry: %s", masked_text(str(error))[:300])
            return None

    @_tolerant
    def fail(self, reason: str) -> None:
        """Closes the parent as FAILED, the children that are open as well."""
        self.look()
        self.parent.fail(reason, children=True)

    @_tolerant
    def kill(self) -> None:
        """Closes all that is open as KILLED (Ctrl-C); the next start opens the same runs again."""
        self.look()
        self.parent.kill(children=True)

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
                what = f"{name.replace('_', ' ')}: before, then after"
                title = f"{what}; blue is the truth, orange the prediction, {LEFT_SIDE}"
                self.parent.image(gallery.sheet(indices[:12], title), f"gallery/{name}.png")


def open_tracker(
    run_dir: Path, outputs: Path, experiment: str, uri: str | None = None, artifacts: str | None = None
) -> Tracker:
    """The store of a run, with a spool in the run directory."""
    return Tracker(outputs, experiment, uri, Path(run_dir) / FOLDER, artifacts)


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
    patience_s: float = 60.0,
    pause_s: float = 10.0,
) -> bool:
    """Tells everything at the end of a run, and waits a while for a store that is away; whether it has everything."""
    tracker = publisher.tracker
    publisher.finish(report)
    began = time.monotonic()
    while not tracker.drain():
        if time.monotonic() - began >= patience_s:
            return False
        say(f"MLflow does not answer; trying again for {patience_s:.0f} s")
        time.sleep(pause_s)
        tracker.breaker.close()
    return not tracker.missed


def _note(run: RunDirectory, won: str | None) -> str:
    """What came of a run: the finding, the baselines, what was forgotten, the tables."""
    said = [finding_sentence(run), rival_sentence(run, rivalries(run)), unmoved_sentence(run), kept_sentence(run)]
    if won is not None:
        said.append(f"Champion: **{arm_look(won).label}** ({RULE}).")
    if run.summary.get("benchmarks"):
        said.append(markdown(table_blocks(run.summary)))
    said.append(f"`posegen show {run.name}` prints the tables; `report.html` is among the artefacts.")
    return "\n\n".join(part for part in said if part)


def _arm_of(folder: str) -> str:
    """`posegen` of `posegen` and of `posegen-round2`."""
    return folder if is_arm(folder) else folder.partition("-round")[0]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
