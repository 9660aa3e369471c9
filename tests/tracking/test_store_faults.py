"""The store under bad luck: started three times at once, moved, shared, away, and secret."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posegen.experiment.run_record import ensure_record
from posegen.tracking.store.away import Breaker
from posegen.tracking.store.local_store import database_of
from posegen.tracking.store.mlflow_store import Tracker, import_mlflow
from posegen.tracking.store.publish import run_key

OPEN = """
import sys, time
from pathlib import Path
from posegen.tracking.store.mlflow_store import Tracker, import_mlflow
import_mlflow()
import mlflow.store.tracking.sqlalchemy_store
print("ready", flush=True)
sys.stdin.readline()
tracker = Tracker(Path(sys.argv[1]))
print(tracker.experiment_id, tracker.run(sys.argv[2]).id, flush=True)
"""


def test_three_processes_that_open_a_new_store_at_once_all_live(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "outputs"
    started = [
        subprocess.Popen([sys.executable, "-c", OPEN, str(folder), f"r{number}"], text=True, stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for number in range(3)
    ]  # fmt: skip
    for process in started:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], ends
    assert len({out.split()[0] for out, _ in ends}) == 1 and len({out.split()[1] for out, _ in ends}) == 3


def test_artefacts_are_found_after_the_outputs_were_moved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before, after = tmp_path / "a", tmp_path / "b"
    write = "import sys; from posegen.tracking.store.mlflow_store import Tracker; "
    write += "Tracker(sys.argv[1]).run('r1').text('hello', 'x.txt')"  # another process: MLflow remembers addresses
    subprocess.run([sys.executable, "-c", write, str(before)], check=True)
    shutil.move(before, after)
    with caplog.at_level(logging.WARNING):
        tracker = Tracker(after)
    assert str(before) in caplog.text and str(after) in caplog.text
    run = tracker.find("r1")
    assert run is not None
    assert [file.path for file in tracker.client.list_artifacts(run.id)] == ["x.txt"]
    run.text("again", "y.txt")
    assert not before.exists() and len(list((after / "mlartifacts").rglob("y.txt"))) == 1
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        Tracker(after)
    assert not caplog.records


def test_two_users_runs_of_one_name_are_two_runs_in_a_store_that_they_share(tmp_path: Path) -> None:
    keys = []
    for user in ("anna", "bob"):
        run = tmp_path / user / "quickstart-seed0"
        run.mkdir(parents=True)
        ensure_record(run)
        keys.append(run_key(run))
        assert run_key(run) == keys[-1]  # kept in the run directory
    assert keys[0] != keys[1] and all(key.startswith("quickstart-seed0-") for key in keys)
    (tmp_path / "old").mkdir()
    assert run_key(tmp_path / "old") == "old"  # without a record it is known by its name, as before


def test_a_store_is_left_alone_after_a_slow_failure_only() -> None:
    breaker = Breaker(rest_s=60, slow_s=1)
    breaker.failed(time.monotonic(), ValueError("a parameter is too long"))
    assert not breaker.open
    breaker.failed(time.monotonic() - 5, ValueError("whatever"))
    assert breaker.open
    breaker.close()
    assert not breaker.open
    first, second = Breaker(rest_s=60), ConnectionError("refused")
    for _ in range(3):
        first.failed(time.monotonic(), second)
    assert first.until > time.monotonic() + 150  # it rests longer each time


def test_no_password_reaches_parameters_tags_or_the_page(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    run = tracker.run("secret")
    run.params({"tracking": {"uri": "postgresql://u:hunter2@h/db"}, "estimator": {"options": {"api_token": "hunter2"}}})
    run.tags({"failure": "cannot reach postgresql://u:hunter2@h/db"})
    stored = tracker.client.get_run(run.id).data
    assert stored.params["tracking.uri"] == "postgresql://u:***@h/db"
    assert stored.params["estimator.options.api_token"] == "***"
    assert "hunter2" not in json.dumps({**stored.params, **stored.tags})


def test_the_file_of_a_sqlite_address() -> None:
    assert database_of("sqlite:////data/o 1/mlflow.db") == Path("/data/o 1/mlflow.db")
    assert database_of("sqlite:///o/mlflow.db") == Path("o/mlflow.db")
    assert database_of("http://h:5000") is None


def test_a_database_on_a_full_disk_shows_no_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """MLflow logs whole tracebacks of what its database raises; we tell it in a line."""
    import_mlflow()
    import sqlalchemy
    from mlflow.exceptions import MlflowException
    from mlflow.store.db.utils import _get_managed_session_maker
    from sqlalchemy.orm import sessionmaker

    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/m.db")
    sessions = _get_managed_session_maker(sessionmaker(bind=engine), "sqlite")
    full = sqlalchemy.exc.OperationalError("insert", {}, Exception("database or disk is full"))
    with caplog.at_level(logging.WARNING), pytest.raises(MlflowException, match="disk is full"), sessions():
        raise full
    assert not [record for record in caplog.records if record.exc_info]
