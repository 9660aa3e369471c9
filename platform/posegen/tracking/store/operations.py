"""What is done to a store, as plain records that can wait on a disk: each may be done twice, and is then done once.

An operation is a mapping `{"do": NAME, "run": KEY, "at_ms": TIME, "given": {...}}`. Runs are named by their keys, not
by MLflow's ids, which are not known as long as the store is away.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posegen.tracking.store.names import PARAM_CHARACTERS, TAG_CHARACTERS, safe_key
from posegen.tracking.store.registered import register

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY_TAG = "posegen.key"
KIND_TAG = "posegen.kind"
PARENT_TAG = "mlflow.parentRunId"
_LOGGED_TABLES_TAG = "mlflow.loggedArtifacts"
_METRICS_A_BATCH = 1000
_PARAMS_A_BATCH = 100


class Sender:
    """Does operations in one MLflow experiment."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self.client, self.experiment_id = client, experiment_id
        self.ids: dict[str, str] = {}  # of runs by key
        self._steps: dict[tuple[str, str], set[int]] = {}  # that the store has, by run and metric
        self._new: set[str] = set()  # runs made here, of which the store had nothing

    def send(self, operation: Mapping[str, Any], files: Path) -> int:
        """Does an operation; how many points were new to the store, of curves.

        Args:
            files: folder of the files that belong to it.
        """
        do: Callable[..., int | None] = getattr(self, f"_do_{operation['do']}")
        try:
            return do(operation["run"], operation["given"], int(operation["at_ms"]), files) or 0
        except Exception:
            self._steps.clear()  # what of them the store has is asked again
            self._new.clear()
            raise

    def find(self, key: str) -> str | None:
        """The id of the run with this key, if there is one that was not deleted."""
        if "'" in key:
            raise ValueError(f"a run's key cannot hold a quote, which would end MLflow's filter: {key}")
        if key not in self.ids:
            found = self.client.search_runs([self.experiment_id], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
            if not found:
                return None
            self.ids[key] = found[0].info.run_id
        return self.ids[key]

    def id_of(self, key: str) -> str:
        """The id of the run with this key. LookupError where it was deleted."""
        found = self.find(key)
        if found is None:
            raise LookupError(f"the store has no run {key}")
        return found

    # -- operations --------------------------------------------------------------------------------------------

    def _do_open(self, key: str, given: Mapping[str, Any], at_ms: int, files: Path) -> None:
        wanted = {KEY_TAG: key, KIND_TAG: given["kind"], **given["tags"]}
        if given["parent"] is not None:
            wanted[PARENT_TAG] = self.id_of(given["parent"])
        found = self.find(key)
        if found is None:
            start = given.get("start_ms") or at_ms
            created = self.client.create_run(self.experiment_id, start, wanted, run_name=given["name"])
            self.ids[key] = created.info.run_id
            self._new.add(created.info.run_id)
            return
        self.client.update_run(found, status="RUNNING")
        self._set_tags(found, wanted)

    def _do_tags(self, key: str, given: Mapping[str, Any], at_ms: int, files: Path) -> None:
        self._set_tags(self.id_of(key), given)

    def _set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        # In one batch: a server answers each request in some tens of milliseconds.
        self.client.log_batch(run_id, tags=[RunTag(safe_key(k), str(v)[:TAG_CHARACTERS]) for k, v in tags.items()])

    def _do_params(self, key: str, given: Mapping[str, str], at_ms: int, files: Path) -> None:
        """MLflow's are written once: one that changed on resume becomes a tag."""
        from mlflow.entities import Param

        run_id = self.id_of(key)
        known = self.client.get_run(run_id).data.params
        new = [Param(name, text[:PARAM_CHARACTERS]) for name, text in given.items() if name not in known]
        for start in range(0, len(new), _PARAMS_A_BATCH):
            self.client.log_batch(run_id, params=new[start : start + _PARAMS_A_BATCH])
        changed = {f"changed.{name}": text for name, text in given.items() if known.get(name, text) != text}
        if changed:
            self._set_tags(run_id, changed)

    def _do_metrics(self, key: str, given: Mapping[str, Any], at_ms: int, files: Path) -> int:
        """Points of curves; a step that has a value keeps it."""
        from mlflow.entities import Metric

        run_id = self.id_of(key)
        new: list[Any] = []
        for name, value, stamp, step in given["points"]:
            steps = self._steps_of(run_id, name)
            if step not in steps:
                steps.add(step)
                new.append(Metric(name, value, stamp, step))
        for start in range(0, len(new), _METRICS_A_BATCH):
            self.client.log_batch(run_id, metrics=new[start : start + _METRICS_A_BATCH])
        return len(new)

    def _steps_of(self, run_id: str, name: str) -> set[int]:
        if (run_id, name) not in self._steps:
            known = [] if run_id in self._new else self.client.get_metric_history(run_id, name)
            self._steps[run_id, name] = {point.step for point in known}
        return self._steps[run_id, name]

    def _do_table(self, key: str, given: Mapping[str, Any], at_ms: int, files: Path) -> None:
        """Written again it replaces, where MLflow's `log_table` would append."""
        run_id, path = self.id_of(key), given["path"]
        self.client.log_dict(run_id, {"columns": given["columns"], "data": given["data"]}, path)
        logged = json.loads(self.client.get_run(run_id).data.tags.get(_LOGGED_TABLES_TAG, "[]"))
        entry = {"path": path, "type": "table"}
        if entry not in logged:
            self.client.set_tag(run_id, _LOGGED_TABLES_TAG, json.dumps([*logged, entry]))

    def _do_file(self, key: str, given: Mapping[str, Any], at_ms: int, files: Path) -> None:
        """A file, or a folder with all that is in it, into a folder of the run's artefacts."""
        path = files / given["name"]
        send = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        send(self.id_of(key), str(path), given["folder"])

    def _do_picture(self, key: str, given: Mapping[str, Any], at_ms: int, files: Path) -> None:
        """A picture of a step, which the run's page shows with a slider over the steps."""
        from posegen.files.pictures import read_rgb

        run_id, name, step = self.id_of(key), given["key"], given["step"]
        there = [file.path for file in self.client.list_artifacts(run_id, "images")]
        if any(path.startswith(f"images/{name}+step+{step}+") and "+compressed" in path for path in there):
            return
        picture = read_rgb(files / given["name"], turned=False, what="a picture of a training")
        self.client.log_image(run_id, picture, key=name, step=step, timestamp=at_ms, synchronous=True)

    def _do_dataset(self, key: str, given: Mapping[str, Any], at_ms: int, files: Path) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        record = Dataset(**given["record"])
        tags = [InputTag("mlflow.data.context", given["context"])]
        self.client.log_inputs(self.id_of(key), datasets=[DatasetInput(record, tags)])

    def _do_model(self, key: str, given: Mapping[str, Any], at_ms: int, files: Path) -> None:
        register(self.client, self.experiment_id, self.id_of(key), given, files / given["name"])

    def _do_end(self, key: str, given: Mapping[str, Any], at_ms: int, files: Path) -> None:
        """Closes a run, with `children` those of its children that are open as well."""
        run_id, status, end = self.id_of(key), given["status"], given.get("end_ms") or at_ms
        if given["children"]:
            for child in self.client.search_runs(
                [self.experiment_id], f"tags.`{PARENT_TAG}` = '{run_id}' AND attributes.status = 'RUNNING'"
            ):
                self.client.set_terminated(child.info.run_id, status, end)
        self.client.set_terminated(run_id, status, end)
