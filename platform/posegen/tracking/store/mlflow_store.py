"""Where a run's numbers go for browsing: MLflow, one parent run an experiment, a child a stage and an arm.

Runs are found again by the tag `posegen.key`, so that an experiment that was interrupted goes on in the same MLflow
runs, and curves are logged by step at most once, so that a history read twice is no history drawn twice.

Without MLFLOW_TRACKING_URI the store is a SQLite file beside the runs (`<outputs>/mlflow.db`, artefacts in
`<outputs>/mlartifacts`): MLflow 3.17 refuses the old file store.

MLflow takes two seconds to import and is imported on first use. Once the store has answered, tracking never sinks a
run: what fails later is logged once as a warning, since all of it is in the run directory as well.
"""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from posegen.errors import PosegenError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

KEY_TAG = "posegen.key"
KIND_TAG = "posegen.kind"
PARENT_TAG = "mlflow.parentRunId"
_LOGGED_TABLES_TAG = "mlflow.loggedArtifacts"

# MLflow's own limits (mlflow/utils/validation.py): a request beyond them is refused as a whole.
_METRICS_A_BATCH = 1000
_PARAMS_A_BATCH = 100
_PARAM_CHARACTERS = 6000
_KEY_CHARACTERS = 250

Status = Literal["FINISHED", "FAILED", "KILLED"]


class TrackingError(PosegenError):
    """The tracking store cannot be opened."""


def quiet_environment() -> dict[str, str]:
    """What MLflow needs in the environment to keep quiet, send no telemetry and give up soon on a dead server."""
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }


def import_mlflow() -> Any:
    """MLflow, imported late, without telemetry and without the log lines of its database migrations."""
    for key, value in quiet_environment().items():
        os.environ.setdefault(key, value)
    import mlflow

    for name in ("mlflow", "alembic", "alembic.runtime.migration"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow


def store_uri(outputs: Path) -> str:
    """MLFLOW_TRACKING_URI, or the SQLite file beside the runs."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(outputs / 'mlflow.db').resolve()}"


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings to dotted keys; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def safe_key(name: str) -> str:
    """A name that MLflow takes: letters, digits and `_-./ :`, at most 250 of them, no empty or dotted path part."""
    name = re.sub(r"[^\w\-. /:]", "_", str(name)).strip("/ ") or "_"
    name = "/".join(part if part.strip(".") else "_" for part in name.split("/") if part)
    return name[:_KEY_CHARACTERS]


def param_text(value: Any) -> str:
    """A parameter's text, cut where MLflow would refuse it."""
    text = str(value)
    if len(text) <= _PARAM_CHARACTERS:
        return text
    mark = f"... ({len(text)} characters)"
    return text[: _PARAM_CHARACTERS - len(mark)] + mark


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a history row, nested mappings flattened; booleans, texts and lists are left out."""
    numbers: dict[str, float] = {}
    for key, value in flatten(row).items():
        if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
            numbers[safe_key(key.replace(".", "/"))] = float(value)
    return numbers


class Tracker:
    """A door to the store: opens (or finds again) the runs of one MLflow experiment.

    Args:
        outputs: the folder of runs; holds the SQLite store when no other is named.
        experiment: the MLflow experiment's name.
        uri: a tracking URI; None reads MLFLOW_TRACKING_URI, else takes the SQLite file in `outputs`.
    """

    def __init__(self, outputs: Path | str = "outputs", experiment: str = "posegen", uri: str | None = None) -> None:
        self.outputs = Path(outputs)
        self.uri = uri or store_uri(self.outputs)
        self.experiment = experiment
        local = self.uri.startswith("sqlite:")
        try:
            if local:
                self.outputs.mkdir(parents=True, exist_ok=True)
            mlflow = import_mlflow()
            self.client: MlflowClient = mlflow.MlflowClient(tracking_uri=self.uri)
            found = self.client.get_experiment_by_name(experiment)
            if found is None:
                location = (self.outputs / "mlartifacts").resolve().as_uri() if local else None
                # The kind makes the user interface show runs and curves first, where it would show chat traces.
                self.experiment_id: str = self.client.create_experiment(
                    experiment, artifact_location=location, tags={"mlflow.experimentKind": "custom_model_development"}
                )
            elif found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
                self.experiment_id = found.experiment_id
            else:
                self.experiment_id = found.experiment_id
        except PosegenError:
            raise
        except Exception as error:
            raise TrackingError(
                f"the MLflow store does not answer: {_first_line(error)}",
                where=self.uri,
                next_command="unset MLFLOW_TRACKING_URI   # keeps the runs in outputs/mlflow.db",
            ) from error

    def environment(self) -> dict[str, str]:
        """What a worker on another machine needs in its environment to write to the same store."""
        return {**quiet_environment(), "MLFLOW_TRACKING_URI": self.uri}

    def run(
        self,
        key: str,
        *,
        name: str | None = None,
        kind: str = "experiment",
        parent: TrackedRun | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> TrackedRun:
        """The run with this key, found again and reopened, else created.

        Args:
            key: what the run is about, unique in the store, e.g. `quickstart-s0/finetune/mocap`.
            name: what the user interface shows; the key by default.
            kind: experiment, stage, arm or trial; kept as a tag to filter by.
            parent: the run that this one is nested in.
        """
        wanted = {KEY_TAG: key, KIND_TAG: kind, **(tags or {})}
        if parent is not None:
            wanted[PARENT_TAG] = parent.id
        run = self.find(key)
        if run is None:
            created = self.client.create_run(self.experiment_id, run_name=name or key, tags=wanted)
            return TrackedRun(self.client, created.info.run_id, key, self)
        self.client.update_run(run.id, status="RUNNING")
        for tag, value in wanted.items():
            self.client.set_tag(run.id, tag, value)
        return run

    def find(self, key: str) -> TrackedRun | None:
        """The run with this key, if there is one that was not deleted."""
        if "'" in key:
            raise ValueError(f"a run's key cannot hold a quote, which would end MLflow's filter: {key}")
        found = self.client.search_runs([self.experiment_id], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
        return TrackedRun(self.client, found[0].info.run_id, key, self) if found else None

    def attach(self, run_id: str) -> TrackedRun:
        """The run with this id: for a worker that was told it by the driver."""
        tags = self.client.get_run(run_id).data.tags
        return TrackedRun(self.client, run_id, tags.get(KEY_TAG, run_id), self)

    def children(self, parent: TrackedRun) -> list[TrackedRun]:
        """The runs nested in another, oldest first."""
        found = self.client.search_runs(
            [self.experiment_id], f"tags.`{PARENT_TAG}` = '{parent.id}'", order_by=["attributes.start_time ASC"]
        )
        return [TrackedRun(self.client, run.info.run_id, run.data.tags.get(KEY_TAG, ""), self) for run in found]


@dataclass
class TrackedRun:
    """One MLflow run. As a context manager it closes itself: FINISHED, KILLED on Ctrl-C, FAILED on any other error."""

    client: MlflowClient
    id: str
    key: str
    tracker: Tracker
    _steps_logged: dict[str, set[int]] = field(default_factory=dict, repr=False)
    _warned: bool = field(default=False, repr=False)

    def child(self, key: str, *, name: str | None = None, kind: str = "stage", **tags: str) -> TrackedRun:
        """A nested run; its key is joined to this one's."""
        return self.tracker.run(f"{self.key}/{key}", name=name or key, kind=kind, parent=self, tags=tags)

    def _guard(self, what: str, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:
            level = logging.DEBUG if self._warned else logging.WARNING
            self._warned = True
            log.log(level, "MLflow did not take %s of %s (the run goes on): %s", what, self.key, _first_line(error))

    def tags(self, tags: Mapping[str, Any]) -> None:
        def write() -> None:
            for key, value in tags.items():
                self.client.set_tag(self.id, safe_key(key), str(value)[:5000])

        self._guard("tags", write)

    def note(self, markdown: str) -> None:
        """The description shown on top of the run's page."""
        self.tags({"mlflow.note.content": markdown})

    def params(self, config: Mapping[str, Any]) -> None:
        """A configuration as parameters. MLflow's are written once: one that changed on resume becomes a tag."""

        def write() -> None:
            from mlflow.entities import Param

            known = self.client.get_run(self.id).data.params
            texts = {safe_key(key): param_text(value) for key, value in flatten(config).items()}
            new = [Param(key, text) for key, text in texts.items() if key not in known]
            for start in range(0, len(new), _PARAMS_A_BATCH):
                self.client.log_batch(self.id, params=new[start : start + _PARAMS_A_BATCH])
            for key, text in texts.items():
                if key in known and known[key] != text:
                    self.client.set_tag(self.id, safe_key(f"changed.{key}"), text[:5000])

        self._guard("parameters", write)

    def metrics(self, values: Mapping[str, Any], step: int = 0) -> None:
        """Scalars at one step; a step that has a value keeps it."""
        self.curves([{"step": step, **values}])

    def curves(self, rows: Iterable[Mapping[str, Any]], step_key: str = "step", prefix: str = "") -> int:
        """Curves from history rows (one mapping a step, with its step), in batches.

        Returns:
            how many points were new to the store.
        """
        new: list[Any] = []

        def write() -> None:
            from mlflow.entities import Metric

            for number, row in enumerate(rows):
                step = int(row.get(step_key, number))
                stamp = _milliseconds(row.get("time_s"))
                for name, value in scalars({k: v for k, v in row.items() if k not in (step_key, "time_s")}).items():
                    key = safe_key(prefix + name)
                    steps = self._steps_of(key)
                    if step not in steps:
                        steps.add(step)
                        new.append(Metric(key, value, stamp, step))
            for start in range(0, len(new), _METRICS_A_BATCH):
                self.client.log_batch(self.id, metrics=new[start : start + _METRICS_A_BATCH])

        self._guard("curves", write)
        return len(new)

    def _steps_of(self, key: str) -> set[int]:
        if key not in self._steps_logged:
            self._steps_logged[key] = {m.step for m in self.client.get_metric_history(self.id, key)}
        return self._steps_logged[key]

    def table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """A table that the user interface shows as one; written again it replaces, where `log_table` would append."""

        def write() -> None:
            import json

            path = name if name.endswith(".json") else f"{name}.json"
            data = [[_plain(cell) for cell in row] for row in zip(*columns.values(), strict=True)]
            self.client.log_dict(self.id, {"columns": list(columns), "data": data}, path)
            tags = self.client.get_run(self.id).data.tags
            logged = json.loads(tags.get(_LOGGED_TABLES_TAG, "[]"))
            entry = {"path": path, "type": "table"}
            if entry not in logged:
                self.client.set_tag(self.id, _LOGGED_TABLES_TAG, json.dumps([*logged, entry]))

        self._guard(f"table {name}", write)

    def figure(self, figure: Figure, path: str) -> None:
        """A matplotlib figure as a PNG artefact."""
        self._guard(f"figure {path}", lambda: self.client.log_figure(self.id, figure, path))

    def image(self, image: np.ndarray, path: str) -> None:
        """An image uint8 (H,W,3) as a PNG artefact."""
        self._guard(f"image {path}", lambda: self.client.log_image(self.id, image, artifact_file=path))

    def artifact(self, path: Path | str, folder: str | None = None) -> None:
        """A file, or a folder with all that is in it."""
        path = Path(path)
        send = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        self._guard(f"artefact {path.name}", lambda: send(self.id, str(path), folder))

    def text(self, text: str, path: str) -> None:
        self._guard(f"text {path}", lambda: self.client.log_text(self.id, text, path))

    def dataset(self, name: str, source: Path | str, digest: str, context: str, rows: int | None = None) -> None:
        """Says which data the run read or made (the `Datasets used` of the run's page)."""

        def write() -> None:
            import json

            from mlflow.entities import Dataset, DatasetInput, InputTag

            profile = json.dumps({"num_rows": rows}) if rows is not None else None
            record = Dataset(name[:500], digest[:36], "local", json.dumps({"uri": str(source)}), profile=profile)
            entry = DatasetInput(record, [InputTag("mlflow.data.context", context)])
            self.client.log_inputs(self.id, datasets=[entry])

        self._guard(f"data set {name}", write)

    def close(self, status: Status = "FINISHED") -> None:
        self._guard("the end", lambda: self.client.set_terminated(self.id, status))

    def finish(self) -> None:
        self.close("FINISHED")

    def fail(self, reason: str = "") -> None:
        if reason:
            self.tags({"posegen.failure": reason})
        self.close("FAILED")

    def kill(self) -> None:
        self.close("KILLED")

    def __enter__(self) -> TrackedRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        elif issubclass(kind, KeyboardInterrupt):
            self.kill()
        else:
            self.fail(_first_line(error) if error is not None else kind.__name__)


def _milliseconds(time_s: Any) -> int:
    seconds = time_s if isinstance(time_s, int | float) and math.isfinite(time_s) else time.time()
    return int(seconds * 1000)


def _plain(cell: Any) -> Any:
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    return cell if isinstance(cell, str | int | float | bool | None) else str(cell)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
