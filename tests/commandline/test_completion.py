"""Completion: what is offered, and what real shells make of it."""

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from shell_posegen import environment, modules_after

from posegen import cli
from posegen.commandline.candidates import candidates
from posegen.commandline.completion import script
from posegen.commandline.options import COMMANDS
from posegen.config.keys import keys
from posegen.errors import ConfigError
from posegen.experiment.stages import RunFolder

HEAVY = ("torch", "ray", "mlflow", "hydra", "scipy", "pyarrow", "matplotlib")


def offered(*line: str) -> list[str]:
    return [word for word, _ in candidates(line).words]


def test_every_command_is_offered_and_nothing_else():
    assert set(COMMANDS) == set(cli.COMMANDS)
    assert set(offered("")) == {*cli.COMMANDS, "--help", "--version"}
    assert offered("fi") == ["finetune", "fit-subject"]


@pytest.mark.parametrize("command", sorted(set(cli.COMMANDS) - {"help"}))
def test_options_are_those_of_the_commands_help(command, capsys):
    with contextlib.suppress(SystemExit):  # argparse
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) - {"--help"}
    extra = {"evaluate": {"--json"}}.get(command, set())  # of another command's help, which an example names
    mine = set(COMMANDS[command].options)
    assert mine - extra <= told, f"{command} completes options that its help does not name"
    assert {option for option in told if f"[{option}" in text or f"\n  {option}" in text} <= mine


def test_groups_keys_and_choices():
    assert "noise=" in offered("run", "no")
    assert "noise." in offered("run", "no")
    assert set(offered("run", "finetune.")) == {f"{name}=" for name in keys() if name.startswith("finetune.")}
    assert offered("run", "noise=m") == ["noise=mixture"]
    assert offered("run", "finetune.keep=") == ["finetune.keep=none", "finetune.keep=l2sp", "finetune.keep=distill"]
    assert offered("run", "overlap=") == ["overlap=true", "overlap=false"]
    assert offered("run", "dataset.arms=[random,mo") == ["dataset.arms=[random,mocap"]
    assert "dataset.arms=[random,random" not in offered("run", "dataset.arms=[random,")
    assert "benchmark=3dpw" in offered("evaluate", "benchmark=3d")
    assert not [word for word in offered("run", "b") if word.startswith("benchmark")]
    assert offered("atlas", "arm=mi") == ["arm=mined_random"]
    assert offered("export", "--arm", "moc") == ["mocap"]


def test_paths_are_left_to_the_shell():
    for line in (("run", "body.path="), ("run", "data=x"), ("compare", "--json", ""), ("submit", "--working-dir", "")):
        assert candidates(line).files, line
    assert not candidates(("run", "finetune.steps=")).files


def test_runs_options_and_jobs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunFolder(tmp_path / "outputs" / "monday")
    (run.path / "summary.json").write_text("{}")
    nested = RunFolder(tmp_path / "outputs" / "exp" / "one")
    (nested.path / "summary.json").write_text("{}")
    assert offered("show", "exp") == ["exp/one"]
    assert offered("show", "mon") == ["monday"]
    assert offered("compare", "monday", "") == ["exp/one"]
    assert offered("export", "monday", "--format", "") == ["hf", "spin", "webdataset"]
    assert offered("submit", "ru") == ["run"]
    assert offered("atlas", "run=m") == ["run=monday"]
    assert candidates(("atlas", "after=")).files
    assert "experiment=smoke" in offered("submit", "run", "experiment=")
    assert offered("help", "finetune.st") == ["finetune.steps", "finetune.stream_share"]


def test_unknown_shell_is_an_error_with_the_shells():
    with pytest.raises(ConfigError, match="did you mean 'zsh'"):
        script("zhs")


def test_the_answer_comes_without_heavy_modules(tmp_path):
    code = "from posegen import cli\ncli.main(['completion', '--words', 'run', 'estimator='])"
    assert modules_after(code, (*HEAVY, "numpy"), tmp_path) == []


BASH = r"""
source script.bash
line="$1"; COMP_LINE=$line COMP_POINT=${#line}
_posegen posegen
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("posegen ru", ["run"]),
        ("posegen run noise=mi", ["mixture"]),  # bash itself keeps what is before `=`
        ("posegen run seed=1 finetune.keep=l", ["l2sp"]),
        ("posegen run finetune.guard_b", ["finetune.guard_back_off="]),
        ("posegen completion ", ["bash", "zsh", "fish"]),
        ("posegen run 'dataset.arms=[random,moc", []),  # inside of quotes bash's words are its own
        ("posegen compare --json some", ["some file.json"]),
        ("posegen run body.path=some", ["some file.json"]),
    ],
)
def test_in_real_bash(line, expected, tmp_path):
    (tmp_path / "script.bash").write_text(script("bash"))
    (tmp_path / "some file.json").write_text("{}")
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", line], cwd=tmp_path, env=environment(tmp_path), capture_output=True,
        text=True, timeout=120, check=True,
    )  # fmt: skip
    assert [word for word in done.stdout.splitlines() if word] == expected, done.stderr


def typed(shell: list[str], setup: str, keys_pressed: str, wanted: str, folder: Path) -> str:
    """What a terminal with a shell shows after some keys, waiting until `wanted` is there."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execvpe(shell[0], shell, {**environment(folder), "PS1": "> ", "TERM": "xterm", "LC_ALL": "C.UTF-8"})
    shown = b""

    def read_until(text: str, seconds: float) -> bool:
        nonlocal shown
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if re.search(text.encode(), shown):
                return True
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    shown += os.read(terminal, 65536)
                except OSError:
                    return False
        return False

    try:
        os.write(terminal, f"{setup}\n".encode())
        assert read_until("READY-2", 60), shown.decode(errors="replace")
        shown = b""
        os.write(terminal, keys_pressed.encode())
        found = read_until(wanted, 60)
        text = shown.decode(errors="replace")
        assert found, text
        return text
    finally:
        os.write(terminal, b"\x03\x04")
        os.close(terminal)
        os.waitpid(child, 0)


SETUP = {
    "bash": (["bash", "--norc", "-i"], 'eval "$(posegen completion bash)"; echo READY-$((1+1))'),
    "zsh": (["zsh", "-f", "-i"],
            'autoload -U compinit; compinit -D; eval "$(posegen completion zsh)"; echo READY-$((1+1))'),
    "fish": (["fish", "--no-config", "-i"], "posegen completion fish | source; echo READY-(math 1+1)"),
}  # fmt: skip
HERE = [shell for shell in SETUP if shutil.which(shell)]  # bash is everywhere; zsh, fish: apt-get install zsh fish


@pytest.mark.parametrize("shell", HERE)
def test_the_key_in_a_terminal(shell, tmp_path):
    command, setup = SETUP[shell]
    typed(command, setup, "posegen run noise=mi\t", "noise=mi?.*xture", tmp_path)
    typed(command, setup, "posegen compl\t", "compl.*etion", tmp_path)


def test_fish_is_told_words_with_their_meanings(tmp_path):
    """What its script asks for, with and without fish at hand."""
    told = subprocess.run(
        ["posegen", "completion", "--words", "--", "run", "noise=mi"], cwd=tmp_path, env=environment(tmp_path),
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    assert told == "noise=mixture\tPoseGen's: Gaussians at fixed means, so that draws fall into kinds.\n"
