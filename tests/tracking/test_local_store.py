"""A new store beside the runs begins as a copy of the first that MLflow made."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from posegen.tracking.store.mlflow_store import Tracker


def content(database: Path) -> tuple[list[str], list[tuple]]:
    """Its tables, and its experiments without the time they were made at."""
    with closing(sqlite3.connect(database)) as connection:
        tables = [str(row) for row in connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")]
        columns = "experiment_id, name, artifact_location, lifecycle_stage"
        rows = connection.execute(f"SELECT {columns} FROM experiments ORDER BY experiment_id").fetchall()
        return sorted(tables), [*rows, *connection.execute("SELECT * FROM alembic_version")]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stores that MLflow makes by its migrations."""
    from mlflow.store.db import utils

    calls: list[str] = []
    initialize = utils._initialize_tables
    monkeypatch.setattr(utils, "_initialize_tables", lambda engine: (calls.append(str(engine.url)), initialize(engine)))
    return calls


def test_the_second_is_a_copy_and_like_the_first(tmp_path, monkeypatch, made):
    cache = tmp_path / "cache"
    monkeypatch.setenv("POSEGEN_CACHE", str(cache))
    first, second = Tracker(tmp_path / "a", "mine"), Tracker(tmp_path / "b", "mine")
    run = first.run("of-the-first")
    assert [Path(url).parent.name for url in made] == ["a"]
    tables, experiments = content(tmp_path / "a" / "mlflow.db")
    others, theirs = content(tmp_path / "b" / "mlflow.db")
    assert others == tables and len(tables) > 50
    assert [row[1] for row in experiments[:2]] == ["Default", "mine"] == [row[1] for row in theirs[:2]]
    assert theirs[1][2] == (tmp_path / "b" / "mlartifacts").as_uri() and theirs[2:] == experiments[2:]
    assert second.find("of-the-first") is None and second.run("of-the-second").id != run.id
    (kept,) = (cache / "mlflow").iterdir()
    kept.write_bytes(kept.read_bytes()[:100_000])  # a disk that lost its end
    Tracker(tmp_path / "c", "mine").run("of-the-third")
    assert [Path(url).parent.name for url in made] == ["a", "c"]
    Tracker(tmp_path / "d", "mine")
    assert len(made) == 2 and content(tmp_path / "d" / "mlflow.db")[0] == content(tmp_path / "c" / "mlflow.db")[0]


def test_what_is_there_is_opened_as_it_is(tmp_path, made):
    run = Tracker(tmp_path / "a").run("kept")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    calls = len(made)
    assert Tracker(tmp_path / "b").find("kept").id == run.id and len(made) == calls


def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path, monkeypatch, made, caplog):
    (tmp_path / "cache").write_text("a file is in the way")
    monkeypatch.setenv("POSEGEN_CACHE", str(tmp_path / "cache"))
    with caplog.at_level("INFO", "posegen.tracking.store.local_store"):
        assert Tracker(tmp_path / "a").run("first").id
    assert len(made) == 1 and "takes as long" in caplog.text
