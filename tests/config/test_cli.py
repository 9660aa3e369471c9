"""The command line without its commands' work."""

import pytest

from posegen import cli
from posegen.errors import ConfigError


def test_help_names_every_command(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for command in cli.COMMANDS:
        assert f"\n  {command} " in text


def test_unknown_command_is_an_error_with_the_near_one(capsys):
    assert cli.main(["evalute"]) == 2
    error = capsys.readouterr().err
    assert "did you mean 'evaluate'" in error
    assert "Traceback" not in error


def test_ctrl_c_says_that_nothing_is_lost(capsys, monkeypatch):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "run", interrupted)
    assert cli.main(["run"]) == cli.INTERRUPTED
    assert "goes on from there" in capsys.readouterr().err


def test_traceback_on_request(monkeypatch):
    monkeypatch.setenv("POSEGEN_TRACEBACK", "1")
    with pytest.raises(ConfigError):
        cli.main(["nothing"])
