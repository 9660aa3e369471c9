"""What goes to workers and jobs by itself, what does not, and what is refused."""

from __future__ import annotations

import pytest

from posegen.engine import cluster, jobs
from posegen.engine.environment import asked_for, harmless, has_password, is_secret_name, refuse_passwords
from posegen.errors import ConfigError

HERE = {
    "MLFLOW_TRACKING_URI": "http://mlflow:5000", "MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "p1",
    "MLFLOW_TRACKING_TOKEN": "p2", "AWS_ACCESS_KEY_ID": "p3", "AWS_SECRET_ACCESS_KEY": "p4", "AWS_SESSION_TOKEN": "p5",
    "AWS_DEFAULT_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "http://store:9000", "AWS_PROFILE": "team",
    "FSSPEC_S3_ENDPOINT_URL": "http://store:9000", "FSSPEC_S3_SECRET": "p6", "FSSPEC_S3_KEY": "p7",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20", "RAY_AUTH_TOKEN": "p8", "POSEGEN_LOG": "INFO",
    "POSEGEN_API_TOKEN": "p9", "HF_TOKEN": "p10", "HOME": "/home/me",
}  # fmt: skip
GOES = {
    "MLFLOW_TRACKING_URI", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "FSSPEC_S3_ENDPOINT_URL",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S",
}  # fmt: skip


@pytest.fixture
def here(monkeypatch):
    for name in list(jobs.os.environ):
        if name.startswith(("MLFLOW_", "RAY_", "AWS_", "FSSPEC_", "POSEGEN_")):
            monkeypatch.delenv(name)
    for name, value in HERE.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_places_and_settings_go_and_secrets_stay():
    assert set(harmless(HERE)) == GOES
    assert set(harmless(HERE, ["POSEGEN_"])) == GOES | {"POSEGEN_LOG"}
    with_password = {"MLFLOW_TRACKING_URI": "postgresql://me:secret@host/db"}
    assert harmless(with_password) == {}


def test_neither_workers_nor_jobs_get_a_secret(here):
    workers = cluster.runtime_env()["env_vars"]
    job = jobs.environment({}, "http://head:8265", [].append)
    assert set(workers) >= GOES and set(job) >= GOES
    for value in (*workers.values(), *job.values()):
        assert value not in {f"p{number}" for number in range(1, 11)}


def test_a_secret_goes_where_it_is_asked_for_by_name(here):
    here.setenv("POSEGEN_PASS_ENV", "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY")
    workers = cluster.runtime_env()["env_vars"]
    assert (workers["AWS_ACCESS_KEY_ID"], workers["AWS_SECRET_ACCESS_KEY"]) == ("p3", "p4")
    assert "AWS_SESSION_TOKEN" not in workers and "POSEGEN_PASS_ENV" not in workers
    here.setenv("POSEGEN_PASS_ENV", "NOT_THERE")
    with pytest.raises(ConfigError, match="NOT_THERE is to be passed on and is not set"):
        cluster.runtime_env()
    said: list[str] = []
    job = jobs.environment({"HF_TOKEN": "p10", "X": "1"}, "http://head:8265", said.append)
    assert (job["HF_TOKEN"], job["X"]) == ("p10", "1")
    assert [line.split()[0] for line in said] == ["HF_TOKEN"] and "can read it" in said[0]
    assert asked_for({}) == {}


@pytest.mark.parametrize(
    ("value", "held"),
    [
        ("http://mlflow:5000", False), ("http://me@mlflow:5000", False), ("http://me:pw@mlflow:5000", True),
        ("postgresql://me:p%40w@host:5432/db", True), ("sqlite:////data/a:b@c.db", False), ("/a:b@c", False),
        ("https://host/db?password=x", True), ("https://host/db?sslmode=on&api_key=x", True),
        ("https://host/db?sslmode=on", False), ("databricks", False), ("", False),
    ],
)  # fmt: skip
def test_a_password_in_a_url_is_seen(value, held):
    assert has_password(value) is held


def test_names_of_secrets():
    secret = {"AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "PGPASSWORD", "WANDB_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS"}
    assert {
        name for name in [*secret, "MONKEY", "KEYBOARD", "AWS_REGION", "RAY_TRAIN_X"] if is_secret_name(name)
    } == secret


def test_a_job_with_a_password_in_its_tracking_uri_is_refused(here, tmp_path, capsys):
    here.setenv("MLFLOW_TRACKING_URI", "https://me:hunter2@mlflow.example/x")
    with pytest.raises(ConfigError, match="has a password in it") as refused:
        jobs.environment({}, "http://head:8265", [].append)
    assert "hunter2" not in str(refused.value)
    assert "MLFLOW_TRACKING_URI=https://mlflow.example/x" in str(refused.value)
    assert "MLFLOW_TRACKING_PASSWORD" in str(refused.value)
    asked = jobs.environment({"MLFLOW_TRACKING_URI": HERE["MLFLOW_TRACKING_URI"]}, "http://head:8265", [].append)
    assert asked["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    with pytest.raises(ConfigError, match=r"tracking\.uri has a password"):
        refuse_passwords({"tracking.uri": "http://me:hunter2@mlflow:5000", "seed": "1"})
    assert "MLFLOW_TRACKING_URI" not in cluster.runtime_env()["env_vars"]  # workers do without: the driver logs
