"""What the system refuses is told as an error of ours, whoever asked for it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from shell_posegen import modules_after

from posegen.cli import main

LONG = "/".join(["a" * 300] * 5)


@pytest.mark.parametrize("words", [["compare", LONG], ["show", LONG], ["lift", f"target.keypoints={LONG}"]])
def test_a_name_too_long_for_the_file_system(words: list[str], capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSEGEN_TRACEBACK", raising=False)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "File name too long" in said and "where: aaa" in said and "next: " in said
    assert "Traceback" not in said and len(said) < 600
    monkeypatch.setenv("POSEGEN_TRACEBACK", "1")
    with pytest.raises(OSError, match="File name too long"):
        main(words)


def test_a_folder_that_may_not_be_entered(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.delenv("POSEGEN_TRACEBACK", raising=False)
    monkeypatch.setattr(Path, "is_file", refused)
    assert main(["compare", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "Permission denied" in said and str(tmp_path) in said and "Traceback" not in said


def test_what_is_mistyped_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    lines = ("run finetune.stps=3", "generate experiment=nope", "run estimator=nope", "lift foo=1")
    code = f"from posegen import cli\nfor line in {lines!r}:\n    assert cli.main(line.split()) == 2, line"
    assert modules_after(code, ("torch", "ray", "mlflow", "hydra"), tmp_path) == []


def test_a_failure_of_the_system_that_is_about_no_file_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from posegen import cli

    def fails(argv: list[str]) -> int:
        raise TimeoutError("nobody answers")

    monkeypatch.setitem(cli.COMMANDS, "show", fails)
    with pytest.raises(TimeoutError):
        main(["show"])
