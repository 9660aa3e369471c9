"""Passwords are masked in whatever is written or shown, and nothing else is."""

from __future__ import annotations

import logging
import pickle

import pytest

from posegen.experiment.experiment import Experiment
from posegen.experiment.in_process import InProcess
from posegen.files.secrets import MaskingFormatter, has_password, masked, masked_text, masked_words

URI = "postgresql://u:hunter2@h:5432/db"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (URI, "postgresql://u:***@h:5432/db"),
        (f"cannot open {URI}: refused", "cannot open postgresql://u:***@h:5432/db: refused"),
        ("mysql+pymysql://u:a/b:c@d@h/db", "mysql+pymysql://u:***@h/db"),
        ("http://:hunter2@h", "http://:***@h"),
        ("postgresql://h/db?user=u&password=hunter2&ssl=1", "postgresql://h/db?user=u&password=***&ssl=1"),
        ("https://h/x?access_token=abc#f", "https://h/x?access_token=***#f"),
    ],
)
def test_a_url_loses_its_password_alone(text, shown):
    assert masked_text(text) == shown
    assert has_password(text.split(" ")[-2].rstrip(":") if " " in text else text)


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:5000", "s3://bucket/a:b", "sqlite:////o/mlflow.db", "a@b:c", "12:30"]
)
def test_what_is_no_secret_stays(text):
    assert masked_text(text) == text and not has_password(text)


def test_a_configuration_is_masked_as_a_copy():
    config = {"tracking": {"uri": URI, "experiment": "posegen"}, "list": [URI, 3], "options": {"api_key": "k", "n": 1}}
    assert masked(config) == {
        "tracking": {"uri": "postgresql://u:***@h:5432/db", "experiment": "posegen"},
        "list": ["postgresql://u:***@h:5432/db", 3],
        "options": {"api_key": "***", "n": 1},
    }
    assert config["tracking"]["uri"] == URI
    assert masked_words([f"tracking.uri={URI}", "estimator.options.token=x", "seed=1"]) == [
        "tracking.uri=postgresql://u:***@h:5432/db", "estimator.options.token=***", "seed=1",
    ]  # fmt: skip


def test_logs_and_their_tracebacks_are_masked():
    try:
        raise ValueError(URI)
    except ValueError:
        import sys

        record = logging.LogRecord("x", logging.ERROR, "f", 1, "no %s", (URI,), sys.exc_info())
    assert "hunter2" not in MaskingFormatter("%(message)s").format(record)


def test_what_a_run_writes_holds_no_password_and_its_command_is_whole(tmp_path):
    from posegen.config import compose, run_name

    words = ["experiment=smoke", f"'tracking.uri=\"{URI}\"'".strip("'"), f"run.outputs={tmp_path}", "seed=3"]
    config = compose(words)
    assert config.tracking.uri == URI
    experiment = Experiment(config, InProcess(), overrides=words)
    experiment.write_config()
    for file in filter(lambda path: path.is_file(), tmp_path.rglob("*")):
        assert "hunter2" not in file.read_text(), file
    assert run_name(compose([word for word in words if "tracking" not in word])) == experiment.run.name
    command = experiment.command()
    assert command.startswith("posegen run experiment=smoke ") and "seed=3" in command and "hunter2" not in command
    assert command.endswith(f"run.name={experiment.run.name}")
    again = experiment.another()
    assert again.startswith("posegen run experiment=smoke ") and again.endswith(" seed=4")
    assert "seed=3" not in again and "hunter2" not in again and "run.name" not in again


def test_tune_saves_no_password_and_gets_it_back(tmp_path):
    from posegen.engine.sweep_watch import SweepRuns

    saved = pickle.dumps(SweepRuns(str(tmp_path), "posegen", URI, "key"))
    assert b"hunter2" not in saved
    assert pickle.loads(saved).uri == URI
