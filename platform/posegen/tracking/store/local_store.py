"""The SQLite store beside the runs: begun as a copy of an empty one, opened by one process at a time, and found again
where its folder was moved."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from filelock import FileLock, Timeout

from posegen.assets import cache_dir
from posegen.errors import DataError
from posegen.files.atomic import replacing

log = logging.getLogger(__name__)

OPENING_S = 180.0  # for others that make the tables first, on a slow machine
_TABLES = {"experiments": "artifact_location", "runs": "artifact_uri", "logged_models": "artifact_location"}


def database_of(uri: str) -> Path | None:
    """The file of a SQLite URI; None for other stores."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(
        unquote(urlsplit(uri).path)[1:] if not uri.startswith("sqlite:////") else uri.removeprefix("sqlite:///")
    )


@contextmanager
def opening(uri: str) -> Iterator[None]:
    """Whoever comes first makes the database's tables while the others wait: MLflow itself does not see to that."""
    database = database_of(uri)
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(database.with_name(f"{database.name}.lock"), timeout=OPENING_S)
    try:
        lock.acquire()
    except (OSError, RuntimeError, Timeout) as error:  # RuntimeError: a file system without locks
        log.warning("%s is opened without a lock (%s); do not start several runs at once", database, error)
        yield
        return
    try:
        yield
    finally:
        lock.release()


@contextmanager
def made_from_an_empty_one(uri: str, version: str) -> Iterator[None]:
    """Around the opening by MLflow: a new SQLite file begins as a copy of the first that this MLflow made.

    MLflow makes one by all the migrations there ever were, each of which waits for the disk. The first is kept in the
    cache folder, as it was before anything was in it.

    Args:
        version: of MLflow.
    """
    database = database_of(uri)
    if database is None or database.exists():
        yield
        return
    kept = cache_dir() / "mlflow" / f"empty-{version}.db"
    known = _is_empty_store(kept)
    if known:
        with replacing(database) as partial:
            shutil.copyfile(kept, partial)
    yield
    if not known:
        try:
            _keep_empty(database, kept)
        except (OSError, sqlite3.Error, DataError) as error:
            log.info("the next MLflow store takes as long to be made as this one: %s", error)


def _is_empty_store(file: Path) -> bool:
    """Whether it is a whole database of MLflow's with nothing in it."""
    if not file.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as connection:
            whole = connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
            return whole and not any(_rows(connection, table) for table in ("experiments", "runs"))
    except sqlite3.Error:
        return False


def _keep_empty(database: Path, kept: Path) -> None:
    """Keeps a copy of a new store, without the experiment that MLflow makes for each by its place."""
    with (
        closing(sqlite3.connect(database)) as new,
        replacing(kept) as partial,
        closing(sqlite3.connect(partial)) as copy,
    ):
        new.backup(copy)
        if _rows(copy, "runs"):
            raise DataError("another process was faster and has filled it", where=database)
        copy.execute("DELETE FROM experiments")
        copy.commit()


def _rows(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def follow_the_move(uri: str, outputs: Path) -> str | None:
    """Points the store's records at `outputs/mlartifacts` where the outputs folder was moved or copied.

    MLflow keeps absolute addresses. Where the store lies in the outputs folder, its artefacts lie beside it.

    Returns:
        the old address, if the records were changed.
    """
    database = database_of(uri)
    if database is None or not database.is_file() or database.resolve().parent != outputs.resolve():
        return None
    new_folder = outputs.resolve() / "mlartifacts"
    new, moved = new_folder.as_uri(), None
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "experiments" not in tables:
            return None
        rows = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        for old in sorted({root for (location,) in rows if (root := _root(location)) is not None} - {new}):
            folder = Path(unquote(urlsplit(old).path))
            if folder.exists() and (not new_folder.exists() or os.path.samefile(folder, new_folder)):
                continue
            for table, column in _TABLES.items():
                if table in tables:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? "
                        f"OR substr({column}, 1, ?) = ?",
                        (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                    )
            moved = old
        connection.commit()
    if moved is not None:
        log.warning("the outputs folder was moved from %s: its MLflow runs now have their artefacts in %s",
                    Path(unquote(urlsplit(moved).path)).parent, new_folder)  # fmt: skip
    return moved


def _root(location: str | None) -> str | None:
    """`file:///.../mlartifacts` of an artefact address, if it is one that posegen gave."""
    if not location or not location.startswith("file:///"):
        return None
    head, mark, rest = location.partition("/mlartifacts")
    return head + mark if mark and (not rest or rest.startswith("/")) else None
