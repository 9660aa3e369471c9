"""Where a run's numbers go for browsing: MLflow, one parent run an experiment, a child a stage and an arm.

Runs are found again by the tag `posegen.key`, so that an experiment that was interrupted goes on in the same MLflow
runs, and curves are logged by step at most once, so that a history read twice is no history drawn twice.

Without MLFLOW_TRACKING_URI the store is a SQLite file beside the runs (`<outputs>/mlflow.db`, artefacts in
`<outputs>/mlartifacts`): MLflow 3.17 refuses the old file store.

MLflow takes two seconds to import and is imported on first use. Tracking never sinks a run: with a spool (see
posegen.tracking.store.spool) what a store that is away does not take waits in the run directory, and is sent in order
when it is back; what it refuses is logged once as a warning, since all of it is in the run directory as well.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from posegen.errors import PosegenError
from posegen.files.secrets import masked_text
from posegen.tracking.store.away import Breaker, is_away, may_pass
from posegen.tracking.store.local_store import database_of, follow_the_move, made_from_an_empty_one, opening
from posegen.tracking.store.names import safe_key
from posegen.tracking.store.operations import KEY_TAG, PARENT_TAG, Sender
from posegen.tracking.store.spool import Spool
from posegen.tracking.store.tracked_run import TrackedRun, first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)


class TrackingError(PosegenError):
    """The tracking store cannot be opened."""


def quiet_environment() -> dict[str, str]:
    """What MLflow needs in the environment to keep quiet, send no telemetry and give up soon on a dead server."""
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines a run that ends on a server, among our bars
        "GIT_PYTHON_REFRESH": "quiet",
    }


def import_mlflow() -> Any:
    """MLflow, imported late, without telemetry and without the log lines of its database migrations."""
    for key, value in quiet_environment().items():
        os.environ.setdefault(key, value)
    import mlflow

    for name in ("mlflow", "alembic", "alembic.runtime.migration"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Of a full disk it shows the whole traceback; what its database does not take is told in our words.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return mlflow


def _be_brief() -> None:
    """MLflow asks a database that lets nobody in ten times, for a minute and a half; the second time is enough."""
    from mlflow.store.db import utils

    if hasattr(utils, "MAX_RETRY_COUNT"):
        utils.MAX_RETRY_COUNT = 2


def store_uri(outputs: Path) -> str:
    """MLFLOW_TRACKING_URI, or the SQLite file beside the runs."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(outputs / 'mlflow.db').resolve()}"


class Tracker:
    """A door to the store: opens (or finds again) the runs of one MLflow experiment.

    Args:
        outputs: the folder of runs; holds the SQLite store when no other is named.
        experiment: the MLflow experiment's name.
        uri: a tracking URI; None reads MLFLOW_TRACKING_URI, else takes the SQLite file in `outputs`.
        spool: folder that keeps what a store that is away does not take. None keeps nothing, and a store that is away
            at the beginning is then an error.
        artifacts: folder or address (s3://...) for the files of an experiment that is new to the store; None leaves
            it to a server, and takes a folder in `outputs` where the store is a database.
    """

    def __init__(
        self,
        outputs: Path | str = "outputs",
        experiment: str = "posegen",
        uri: str | None = None,
        spool: Path | None = None,
        artifacts: str | None = None,
    ) -> None:
        self.outputs = Path(outputs)
        self.named = uri is not None
        self.uri = uri or store_uri(self.outputs)
        self.experiment, self.artifacts = experiment, artifacts
        self.spool = None if spool is None else Spool(spool)
        self.missed: list[str] = []  # what the store did not take and does not wait either
        self.breaker = Breaker()
        self._sender: Sender | None = None
        self._at_work = threading.RLock()  # one operation at a time, in order
        self._warned = False
        try:
            self._open()
        except TrackingError as error:
            if self.spool is None or database_of(self.uri) is not None or not is_away(error):
                raise
            self._away(time.monotonic(), error)

    def _open(self) -> Sender:
        if self._sender is not None:
            return self._sender
        try:
            mlflow = import_mlflow()
            if not self.remote:
                _be_brief()
            with opening(self.uri):
                follow_the_move(self.uri, self.outputs)
                with made_from_an_empty_one(self.uri, mlflow.__version__):
                    client: MlflowClient = mlflow.MlflowClient(tracking_uri=self.uri)  # this opens the database
                self._sender = Sender(client, self._experiment(client))
        except PosegenError:
            raise
        except Exception as error:
            kept = self.outputs / "mlflow.db"
            named = "leave tracking.uri out" if self.named else "unset MLFLOW_TRACKING_URI"
            own = database_of(self.uri) == kept.resolve()
            cure = (
                f"mv {kept} {kept}.old, then the same command again" if own else f"{named}   # keeps the runs in {kept}"
            )
            if isinstance(error, ModuleNotFoundError):  # a database's driver
                cure = f"pip install '{error.name}'   # or name the driver that is there, as in postgresql+psycopg2://"
            raise TrackingError(
                f"the MLflow store does not answer: {masked_text(first_line(error))}",
                where=masked_text(self.uri),
                next_command=cure,
            ) from error
        return self._sender

    def _experiment(self, client: MlflowClient) -> str:
        """The experiment's id, made where it is not there: by whichever process comes first."""
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            location = self.artifacts
            if location is None and not self.remote:
                location = (self.outputs / "mlartifacts").resolve().as_uri()
            elif location is not None and "://" not in location:
                location = Path(location).expanduser().resolve().as_uri()
            try:
                # The kind makes the user interface show runs and curves first, where it would show chat traces.
                return client.create_experiment(
                    self.experiment,
                    artifact_location=location,
                    tags={"mlflow.experimentKind": "custom_model_development"},
                )
            except Exception:
                found = client.get_experiment_by_name(self.experiment)  # another process was faster
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return found.experiment_id

    @property
    def remote(self) -> bool:
        """Whether a server stands before the store, which keeps the files as well."""
        return self.uri.startswith(("http://", "https://"))

    @property
    def client(self) -> MlflowClient:
        """MLflow's own. Raises TrackingError where the store does not answer."""
        return self._open().client

    @property
    def experiment_id(self) -> str:
        return self._open().experiment_id

    def environment(self) -> dict[str, str]:
        """What a worker on another machine needs in its environment to write to the same store."""
        return {**quiet_environment(), "MLFLOW_TRACKING_URI": self.uri}

    # -- runs --------------------------------------------------------------------------------------------------

    def run(
        self,
        key: str,
        *,
        name: str | None = None,
        kind: str = "experiment",
        parent: TrackedRun | None = None,
        tags: Mapping[str, str] | None = None,
        start_s: float | None = None,
    ) -> TrackedRun:
        """The run with this key, found again and reopened, else created.

        Args:
            key: what the run is about, unique in the store, e.g. `quickstart-s0/finetune/mocap`.
            name: what the user interface shows; the key by default.
            kind: experiment, stage, arm, evaluation, sweep or trial; kept as a tag to filter by.
            parent: the run that this one is nested in.
            start_s: when it began (time.time), where it is new to the store; now by default.
        """
        given: dict[str, Any] = {
            "name": name or key,
            "kind": kind,
            "parent": None if parent is None else parent.key,
            "tags": {safe_key(tag): masked_text(str(value)) for tag, value in (tags or {}).items()},
            "start_ms": None if start_s is None else int(start_s * 1000),
        }
        run = TrackedRun(self, key)
        if self.spool is None:
            with self._at_work, TemporaryDirectory() as nothing:
                self._open().send(_operation("open", key, given), Path(nothing))
        else:
            self.submit("the beginning", "open", key, given)
        return run

    def find(self, key: str) -> TrackedRun | None:
        """The run with this key, if there is one that was not deleted."""
        return TrackedRun(self, key) if self._open().find(key) is not None else None

    def attach(self, run_id: str) -> TrackedRun:
        """The run with this id."""
        sender = self._open()
        key = sender.client.get_run(run_id).data.tags.get(KEY_TAG, run_id)
        sender.ids[key] = run_id
        return TrackedRun(self, key)

    def children(self, parent: TrackedRun) -> list[TrackedRun]:
        """The runs nested in another, oldest first."""
        found = self.client.search_runs(
            [self.experiment_id], f"tags.`{PARENT_TAG}` = '{parent.id}'", order_by=["attributes.start_time ASC"]
        )
        return [self.attach(run.info.run_id) for run in found]

    def id_of(self, key: str) -> str:
        """MLflow's own name of the run with this key. Raises TrackingError where the store does not answer."""
        return self._open().id_of(key)

    # -- operations --------------------------------------------------------------------------------------------

    def submit(
        self, what: str, do: str, key: str, given: Mapping[str, Any], files: Mapping[str, bytes | Path] | None = None
    ) -> int:
        """Does an operation, or keeps it for later. Never an error.

        Args:
            what: the operation in words.
            do, key, given: see posegen.tracking.store.operations.
            files: that belong to it, by name.

        Returns:
            of curves: how many points were new to the store.
        """
        operation = _operation(do, key, given)
        with self._at_work:
            if self.spool is not None and (self.breaker.open or not self.spool.empty):
                return self._keep(what, operation, files or {})
            if self.breaker.open:
                self.missed.append(f"{what} of {key}")
                return 0
            began = time.monotonic()
            try:
                with TemporaryDirectory() as folder:
                    lay_out(files or {}, Path(folder))
                    return self._open().send(operation, Path(folder))
            except Exception as error:
                self._away(began, error)
                if self.spool is not None and may_pass(error):
                    return self._keep(what, operation, files or {})
                self._missed(what, key, error)
        return 0

    def _keep(self, what: str, operation: Mapping[str, Any], files: Mapping[str, bytes | Path]) -> int:
        assert self.spool is not None
        try:
            self.spool.add(operation, files)
        except (OSError, PosegenError) as error:
            self._missed(what, operation["run"], error)
        return 0

    def _missed(self, what: str, key: str, error: BaseException) -> None:
        self.missed.append(f"{what} of {key}")
        level = logging.DEBUG if self._warned else logging.WARNING
        self._warned = True
        log.log(level, "MLflow did not take %s of %s (the run goes on): %s", what, key, masked_text(first_line(error)))

    def _away(self, began: float, error: BaseException) -> None:
        first = not self.breaker.open
        self.breaker.failed(began, error)
        if self.spool is not None and first and may_pass(error) and not self._warned:
            self._warned = True
            log.warning("MLflow does not answer (the run goes on, and what it is to be told waits in %s): %s",
                        self.spool.folder, masked_text(first_line(error)))  # fmt: skip

    def drain(self) -> bool:
        """Sends what waits, in its order; whether nothing waits any more. Leaves a store alone that is away."""
        if self.spool is None or self.spool.empty:
            return True
        if self.breaker.open:
            return False
        with self._at_work:
            began = time.monotonic()
            try:
                sender = self._open()
                refused = self.spool.send(sender.send, may_pass)
            except Exception as error:
                self._away(began, error)
                return False
            self.breaker.close()
            for reason in refused:
                self.missed.append(reason)
                log.warning("MLflow refused what had waited (the run goes on): %s", masked_text(reason))
            return self.spool.empty


def _operation(do: str, key: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"do": do, "run": key, "at_ms": int(time.time() * 1000), "given": dict(given)}


def lay_out(files: Mapping[str, bytes | Path], folder: Path) -> None:
    """Puts the files of an operation into a folder: texts as they are, paths as links."""
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        elif not content.exists():
            raise FileNotFoundError(f"{content} is not there")
        else:
            (folder / name).symlink_to(content.absolute(), target_is_directory=content.is_dir())
