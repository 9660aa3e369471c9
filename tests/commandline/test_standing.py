"""`posegen` alone: runs that ended, that are at work, and that were stopped, each with the next command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from shell_posegen import PLATFORM

from posegen import cli
from posegen.commandline.standing import AT_WORK, FINISHED, STOPPED, ago, standings, text
from posegen.experiment.run_folders import find_run
from posegen.experiment.stages import RunFolder
from posegen.files.lock import holder, locked

FOUND = {
    "run": "monday", "seed": 3, "arms": ["before", "posegen"],
    "average": {"posegen": {"relative_mpjpe": {"value": -0.084, "low": -0.1, "high": -0.07}}}, "benchmarks": {},
}  # fmt: skip


def made(outputs: Path, name: str, stages: tuple[str, ...] = (), summary: dict | None = None) -> Path:
    run = RunFolder(outputs / name)
    for stage in stages:
        run.run_stage(stage, "d", dict)
    if summary is not None:
        (run.path / "summary.json").write_text(json.dumps(summary))
    return run.path


def test_nothing_yet_says_how_to_begin(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main([]) == 0
    text = capsys.readouterr().out
    assert "no run in outputs/ yet" in text
    assert "posegen run " in text
    assert not (tmp_path / "outputs").exists()


def test_a_finished_run_tells_its_finding_and_the_next_seed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = made(tmp_path / "outputs", "monday", ("evaluate",), FOUND)
    (path / "report.html").write_text("")
    (tmp_path / "outputs" / "latest").symlink_to("monday")
    assert cli.main([]) == 0
    text = capsys.readouterr().out
    assert "monday  finished now: PoseGen −8.4 % MPJPE" in text
    assert "posegen show monday" in text
    assert "posegen run seed=4" in text
    (path / "config.yaml").write_text("# posegen run experiment=smoke seed=3 'a=b c' run.kin=[x] run.name=monday\n")
    assert cli.main([]) == 0
    assert "posegen run experiment=smoke 'a=b c' seed=4   # another seed" in capsys.readouterr().out
    assert text.count("monday  ") == 1


def test_a_stopped_run_is_gone_on_with_by_the_command_that_was_kept(tmp_path):
    path = made(tmp_path, "tuesday", ("generate/posegen", "dataset/posegen"))
    assert standings(tmp_path)[0].command == "posegen run ... run.name=tuesday   # with what it was begun with"
    (path / "dataset" / "posegen").mkdir(parents=True)
    (path / "dataset" / "posegen" / "_manifest.json").write_text(
        json.dumps({"command": "posegen run experiment=smoke run.name=tuesday"})
    )
    [found] = standings(tmp_path)
    assert (found.state, found.command) == (STOPPED, "posegen run experiment=smoke run.name=tuesday")
    assert found.said == "2 stages done, the last is dataset/posegen"
    (path / "config.yaml").write_text("# posegen run seed=2 run.name=tuesday\nseed: 2\n")
    assert standings(tmp_path)[0].command == "posegen run seed=2 run.name=tuesday"


def test_who_works_in_a_run_is_told_and_a_dead_process_is_not(tmp_path):
    path = made(tmp_path, "wednesday")
    with locked(path):
        code = f"from posegen.files.lock import holder; import sys; sys.stdout.write(str(holder({str(path)!r})['pid']))"
        seen = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(PLATFORM)},
                              capture_output=True, text=True, check=True)  # fmt: skip
        assert seen.stdout == str(os.getpid())
        [found] = standings(tmp_path)
        assert found.state == AT_WORK
        assert f"process {os.getpid()}" in found.said
    assert holder(path) is None
    (path / ".lock").write_text(json.dumps({"host": os.uname().nodename, "pid": 1, "since": "x", "beat": 4}))
    assert holder(path) is None  # nobody holds it: it was killed
    (path / ".lock").write_text(json.dumps({"host": "another", "pid": 1, "since": "x", "beat": 4}))
    assert holder(path)["host"] == "another"  # just written, from a machine whose locks are not seen here
    os.utime(path / ".lock", (1, 1))
    assert holder(path) is None


def test_runs_in_folders_are_found_by_their_whole_names_and_other_folders_are_no_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    outputs = tmp_path / "outputs"
    made(outputs, "tuesday", (), FOUND)
    made(outputs, "exp/one", (), {**FOUND, "run": "exp/one"})
    stopped = made(outputs, "exp/deep/two", ("generate/posegen",))
    (outputs / "lift-1").mkdir()  # of `posegen lift`, which ended last
    (outputs / "lift-1" / "summary.json").write_text(json.dumps({"people": 3}))
    made(outputs / "sweeps" / "small", "trial", (), FOUND)  # a sweep's own
    assert {run.name: run.state for run in standings(outputs)} == {
        "tuesday": FINISHED, "exp/one": FINISHED, "exp/deep/two": STOPPED,
    }  # fmt: skip
    os.utime(outputs / "tuesday" / "summary.json", (1, 1))
    assert cli.main(["show"]) == 0
    assert capsys.readouterr().out.startswith("run exp/one")
    assert cli.main(["show", "lift-1"]) == 2
    told = capsys.readouterr().err
    assert "no finished run 'lift-1'" in told and "valid choices: tuesday, exp/one" in told
    assert cli.main(["show", "exp/deep/two"]) == 2
    assert f"where: {stopped}" in capsys.readouterr().err
    (outputs / "latest").symlink_to("exp/deep/two")
    assert find_run("latest", outputs) == find_run(str(stopped), outputs) == stopped
    assert find_run("lift-1", outputs) is None


def test_for_machines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "outputs", "monday", (), FOUND)
    assert cli.main(["--json"]) == 0
    [run] = json.loads(capsys.readouterr().out)["runs"]
    assert (run["run"], run["state"], run["next"]) == ("monday", FINISHED, "posegen show monday")


def test_a_command_with_an_open_quote_is_no_reason_to_say_nothing(tmp_path):
    path = made(tmp_path, "monday", (), FOUND)
    (path / "config.yaml").write_text("# posegen run 'experiment=smoke run.name=monday\n")
    assert "posegen run seed=4" in text(tmp_path, standings(tmp_path))


@pytest.mark.parametrize(
    ("seconds", "said"), [(5, "now"), (70, "1 min ago"), (7300, "2 h ago"), (200000, "2 days ago")]
)
def test_times(seconds, said):
    assert ago(seconds) == said
