"""A store that is away: nothing is lost, nothing is doubled, everything comes in its order."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from posegen.tracking.store.away import is_away, may_pass
from posegen.tracking.store.mlflow_store import Tracker, TrackingError
from posegen.tracking.store.publish import Publisher, finish_patiently, open_tracker
from posegen.tracking.store.spool import FOLDER, Spool
from posegen.tracking.store.sync_command import main as track

NOBODY = "http://127.0.0.1:9"


class Away:
    """A client of a server that does not answer, from the `after`-th call on."""

    def __init__(self, real, after: int = 0) -> None:
        self.real, self.left = real, after

    def __getattr__(self, name: str):
        def call(*args, **kwargs):
            if self.left == 0:
                raise ConnectionError("HTTPConnectionPool(host='127.0.0.1', port=9): Max retries exceeded")
            self.left -= 1
            return getattr(self.real, name)(*args, **kwargs)

        return call


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that is there: its tables take seconds to make."""
    folder = tmp_path_factory.mktemp("store")
    Tracker(folder)
    return folder


def told(tracker: Tracker, key: str) -> dict:
    """What the store has of a run, without times."""
    run = tracker.client.get_run(tracker.id_of(key))
    curves = {
        name: [(point.step, point.value) for point in tracker.client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    tags = {tag: text for tag, text in run.data.tags.items() if not tag.startswith("mlflow.") and tag != "posegen.key"}
    files = sorted(file.path for file in tracker.client.list_artifacts(run.info.run_id))
    return {"params": run.data.params, "tags": tags, "curves": curves, "files": files, "status": run.info.status}


def tell(run) -> None:
    """Twelve things in an order that matters."""
    run.params({"a": 1, "b": {"c": 2}})
    run.params({"a": 3})
    for step in range(6):
        run.metrics({"loss": 1.0 / (step + 1)}, step)
    run.tags({"state": "first"})
    run.tags({"state": "last"})
    run.text("hello", "words/hello.txt")
    run.close("FINISHED")


@pytest.mark.parametrize("answers", [0, 3, 14])
def test_a_store_that_goes_away_at_any_call_has_all_in_the_end(store: Path, tmp_path: Path, answers: int) -> None:
    plain = Tracker(store)
    tell(plain.run(f"never-away-{answers}", kind="t"))
    tracker = Tracker(store, spool=tmp_path / "spool")
    sender = tracker._open()
    real, sender.client = sender.client, Away(sender.client, answers)  # type: ignore[assignment]
    tell(tracker.run(f"away-{answers}", kind="t"))
    assert not tracker.spool.empty and not tracker.drain()  # type: ignore[union-attr]

    later = Tracker(store, spool=tmp_path / "spool")  # another process
    assert later.drain() and later.spool.empty  # type: ignore[union-attr]
    sender.client = real
    assert told(later, f"away-{answers}") == told(plain, f"never-away-{answers}")
    assert told(later, f"away-{answers}")["tags"]["state"] == "last"


def test_what_was_sent_and_not_forgotten_is_sent_again_and_changes_nothing(store: Path, tmp_path: Path) -> None:
    tracker = Tracker(store, spool=tmp_path / "spool")
    tracker.breaker.failed(0.0, ConnectionError())
    tell(tracker.run("twice", kind="t"))
    shutil.copytree(tmp_path / "spool", tmp_path / "copy")  # as it would be after a kill in mid-sending
    tracker.breaker.close()
    assert tracker.drain()
    first = told(tracker, "twice")
    again = Tracker(store, spool=tmp_path / "copy")
    assert again.drain() and told(again, "twice") == first
    assert first["curves"]["loss"] == [(step, 1.0 / (step + 1)) for step in range(6)]
    assert first["params"]["a"] == "1" and first["tags"]["changed.a"] == "3"


def test_what_is_refused_for_good_is_set_aside_and_the_rest_goes_on(store: Path, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    tracker = Tracker(store, spool=tmp_path / "spool")
    tracker.run("refused")
    spool.add({"do": "tags", "run": "no such run", "at_ms": 0, "given": {"a": "b"}}, {})
    (tmp_path / "spool" / "00000007.json").write_text('{"do": ')  # cut short
    spool.add({"do": "tags", "run": "refused", "at_ms": 0, "given": {"a": "b"}}, {})
    assert tracker.drain() and len(tracker.missed) == 2
    assert told(tracker, "refused")["tags"]["a"] == "b"
    assert len(list((tmp_path / "spool" / "refused").glob("*.json"))) == 2


def test_a_server_that_is_away_all_the_time_ends_no_run_and_sync_brings_all(
    run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    outputs = run_copy.parent
    tracker = open_tracker(run_copy, outputs, "posegen", NOBODY)
    publisher = Publisher(tracker, run_copy)
    publisher.start({"seed": 0})
    publisher.arm("random", close=True)
    assert not finish_patiently(publisher, None, lambda line: None, patience_s=0)
    waiting = Spool(run_copy / FOLDER).waiting()
    assert [json.loads(file.read_text())["do"] for file in waiting[:2]] == ["open", "params"]
    assert not tracker.missed

    store = f"sqlite:///{outputs / 'mlflow.db'}"
    assert track(["sync", "--outputs", str(outputs), "--uri", store]) == 0
    assert str(run_copy) in capsys.readouterr().out
    assert Spool(run_copy / FOLDER).empty
    client = Tracker(outputs).client
    parent = Tracker(outputs).find(run_copy.name)
    assert parent is not None and client.get_run(parent.id).info.status == "FINISHED"
    assert len(Tracker(outputs).children(parent)) == 11
    assert track(["sync", "--outputs", str(outputs)]) == 0
    assert "nothing waits" in capsys.readouterr().out


def test_a_server_that_is_away_is_an_error_where_nothing_is_kept(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError):
        Tracker(tmp_path, uri=NOBODY)
    with pytest.raises(TrackingError):  # what is wrong with an address does not pass
        Tracker(tmp_path, uri="nonsense://x", spool=tmp_path / "spool")


def test_what_may_pass_and_what_not() -> None:
    from mlflow.exceptions import MlflowException

    wrapped = RuntimeError("upload failed")
    wrapped.__cause__ = TimeoutError()
    assert is_away(wrapped) and is_away(ConnectionRefusedError()) and not is_away(ValueError("too long"))
    denied = MlflowException("no", error_code=7)  # PERMISSION_DENIED
    assert may_pass(denied) and not is_away(denied)
    assert not may_pass(MlflowException("a parameter is too long", error_code=1000))
    assert not may_pass(FileNotFoundError("x"))
