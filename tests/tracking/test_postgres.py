"""A team's store: a real PostgreSQL with a password, files in S3 (moto), the database away in the middle of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import Postgres, postgres

from posegen.tracking.store.mlflow_store import Tracker, TrackingError
from posegen.tracking.store.publish import Publisher, finish_patiently, open_tracker

pytestmark = pytest.mark.slow  # MLflow makes its fifty tables in PostgreSQL


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="runs")
    yield "s3://runs/posegen"
    server.stop()


def test_a_run_in_postgresql_and_s3_with_the_database_away_in_between(
    database: Postgres, bucket: str, run_copy: Path, tmp_path: Path
) -> None:
    tracker = open_tracker(run_copy, run_copy.parent, "team", database.uri, bucket)
    publisher = Publisher(tracker, run_copy)
    publisher.start({"seed": 0})
    database.stop()
    publisher.arm("posegen", close=True)
    assert tracker.spool is not None and not tracker.spool.empty and not tracker.missed
    assert not finish_patiently(publisher, None, lambda line: None, patience_s=0)
    database.start()
    tracker.breaker.close()
    assert tracker.drain() and not tracker.missed

    plain = Tracker(run_copy.parent, "team", database.uri)  # asked by a second process
    parent = plain.find(publisher.key)
    assert parent is not None
    run = plain.client.get_run(parent.id)
    assert run.info.status == "FINISHED" and run.info.artifact_uri.startswith("s3://runs/posegen/")
    assert len(plain.children(parent)) == 11
    rows = [json.loads(line) for line in (run_copy / "finetune/posegen/history.jsonl").read_text().splitlines()]
    points = plain.client.get_metric_history(parent.id, "finetune loss/posegen")
    assert sorted((p.step, p.value) for p in points) == [(row["step"], row["loss"]) for row in rows]
    summary = Path(plain.client.download_artifacts(parent.id, "summary.json", str(tmp_path)))
    assert json.loads(summary.read_text()) == json.loads((run_copy / "summary.json").read_text())


def test_a_wrong_password_is_an_error_and_is_not_shown(database: Postgres, tmp_path: Path) -> None:
    wrong = database.uri.replace(database.password, "hunter2")
    with pytest.raises(TrackingError) as caught:
        Tracker(tmp_path, "team", wrong, spool=tmp_path / "spool")
    assert "hunter2" not in str(caught.value) and "password" in str(caught.value)
