"""Which variables of this process go to workers and jobs: none that holds a secret, unless it is asked for by name.

The environment of a job, a worker or an actor can be read by everyone who may open Ray's dashboard or ask its State
API. So nodes hold passwords and keys in their own environment (cluster/ shows how), and what is passed on by itself
are names, places and settings.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterable, Mapping

from posegen.errors import ConfigError
from posegen.files.secrets import has_password, is_secret_name

PASSED_NAMES = (
    "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_S3_ENDPOINT_URL", "MLFLOW_DISABLE_TELEMETRY",
    "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "FSSPEC_S3_ENDPOINT_URL",
)  # fmt: skip
PASSED_PREFIXES = ("RAY_TRAIN_", "RAY_DATA_")
PASS_ENV = "POSEGEN_PASS_ENV"  # names, separated by commas, that go to workers whatever they hold


def harmless(environment: Mapping[str, str], prefixes: Iterable[str] = ()) -> dict[str, str]:
    """The variables that are passed on without being asked for, a URL with a password excepted.

    Args:
        environment: usually os.environ.
        prefixes: of further names; among these too, what is called like a secret stays here.
    """
    starts = (*PASSED_PREFIXES, *prefixes)
    return {
        name: value
        for name, value in environment.items()
        if (name in PASSED_NAMES or (name.startswith(starts) and not is_secret_name(name)))
        and name != PASS_ENV
        and not has_password(value)
    }


def asked_for(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that $POSEGEN_PASS_ENV names. ConfigError if one of them is not set."""
    names = [name.strip() for name in environment.get(PASS_ENV, "").split(",") if name.strip()]
    missing = [name for name in names if name not in environment]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} is to be passed on and is not set",
            where=PASS_ENV,
            next_command=f"export {missing[0]}=...  # or take the name out of {PASS_ENV}",
        )
    return {name: environment[name] for name in names}


def refuse_passwords(values: Mapping[str, str]) -> None:
    """ConfigError for a URL with a password, which all who may open the dashboard would read."""
    for name, value in values.items():
        if has_password(value):
            parts = urllib.parse.urlsplit(value)
            bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
            raise ConfigError(
                f"{name} has a password in it: everyone who may open the cluster's dashboard could read it",
                where=name,
                next_command=f"{name}={bare}, and the password in the nodes' own environment "
                "(for MLflow: MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD)"
                + (f"; --env {name} passes it as it is" if name.isupper() else ""),
            )


def passed_to_workers() -> dict[str, str]:
    """What workers of this process's cluster get: what is harmless, and what $POSEGEN_PASS_ENV names."""
    return {**harmless(os.environ, ("POSEGEN_", "OMP_NUM_THREADS", "HYDRA_")), **asked_for(os.environ)}
