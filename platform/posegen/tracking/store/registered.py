"""The registry of models: a version for each estimator that was told of, and the aliases `source` and `champion`.

`source` is the estimator that runs start from. `champion` is the best that is known: a run's winner (see
posegen.tracking.store.champion) takes the alias unless the present champion was measured by the same rule on the same
data and is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

SOURCE, CHAMPION = "source", "champion"
DIGEST_TAG = "posegen.digest"  # of the weights: a model is registered once
RULE_TAG = "posegen.rule"  # digest of what the score was measured on, and how
SCORE_TAG = "posegen.score"  # lower is better


def register(client: MlflowClient, experiment_id: str, run_id: str, given: Mapping[str, Any], folder: Path) -> None:
    """Logs a model that was saved in a folder, registers it, and moves aliases. Done twice, it is done once.

    Args:
        given: `model`, the registered model's name; `label`, the logged model's; `tags`, with DIGEST_TAG; `aliases`;
            `description`.
    """
    tags = {key: str(value) for key, value in given["tags"].items()}
    version = _version(client, given["model"], tags[DIGEST_TAG])
    if version is None:
        model = _logged(client, experiment_id, run_id, given["label"], tags, folder)
        _ensure_registered(client, given["model"])
        # A server finds a model by its id; MLflow without one would look for it in the process' default store.
        remote = client.tracking_uri.startswith(("http://", "https://"))
        version = client.create_model_version(
            given["model"],
            f"models:/{model.model_id}" if remote else model.artifact_location,
            run_id,
            tags,
            description=given["description"],
            model_id=model.model_id,
        )
    else:
        for key, value in tags.items():
            client.set_model_version_tag(given["model"], str(version.version), key, value)
    for alias in given["aliases"]:
        if alias != CHAMPION or _is_better(client, given["model"], tags):
            client.set_registered_model_alias(given["model"], alias, str(version.version))


def _version(client: MlflowClient, name: str, digest: str) -> Any:
    found = client.search_model_versions(f"name = '{name}'")
    return next((version for version in found if version.tags.get(DIGEST_TAG) == digest), None)


def _logged(
    client: MlflowClient, experiment_id: str, run_id: str, label: str, tags: dict[str, str], folder: Path
) -> Any:
    """The logged model, with its files; one that was begun and not finished is gone on with."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    known = client.search_logged_models([experiment_id], f"tags.`{DIGEST_TAG}` = '{tags[DIGEST_TAG]}'")
    model = next(iter(known), None)
    if model is None:
        model = client.create_logged_model(experiment_id, label, run_id, tags, model_type="pose estimator")
    if model.status != LoggedModelStatus.READY:
        client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    return model


def _ensure_registered(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Pose estimators, fine-tuned by posegen")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _is_better(client: MlflowClient, name: str, tags: Mapping[str, str]) -> bool:
    """Whether a model takes the champion's place: there is none, it was measured otherwise, or it is no better."""
    from mlflow.exceptions import MlflowException

    try:
        present = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return True
    if present.tags.get(RULE_TAG) != tags[RULE_TAG]:
        return True
    return float(tags[SCORE_TAG]) <= float(present.tags.get(SCORE_TAG, "inf"))
