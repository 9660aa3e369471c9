"""Stages taken over from another run: the same files, the same figures, nobody's work twice."""

from __future__ import annotations

import errno
import io
import json
import os
import runpy
import shutil
from pathlib import Path

import pytest

from posegen.arms.registry import BEFORE, arm_of
from posegen.config import compose, run_name
from posegen.errors import ConfigError, DataError
from posegen.experiment.in_process import InProcess
from posegen.experiment.kin import Kin, kin_of
from posegen.experiment.measured import Measured
from posegen.experiment.opening import opened
from posegen.experiment.plans import ArmRound, Plans
from posegen.experiment.stages import RunFolder
from posegen.experiment.work import Workers
from posegen.progress import Reporter
from posegen.target.people import read_people

SMALL = (
    "experiment=smoke", "target=embedded", "target.embedded=[3dpw-like]", "target.embedded_images=12",
    "target.lifting={dictionary: 2000}", "dataset.arms=[random,anchors]", "evaluation.images=8",
)  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> RunFolder:
    """A run with one stage: shards, weights and a history of steps."""
    run = RunFolder(tmp_path / "made")
    rows, weights = run.folder("dataset", "random"), run.folder("finetune", "random")
    (rows / "part.parquet").write_bytes(b"rows")
    (weights / "estimator.pt").write_bytes(b"weights")
    (weights / "history.jsonl").write_text('{"step": 1}\n')
    run.run_stage("finetune/random", "abc", lambda: {"steps": 7, "seconds": 12.5})
    return run


def test_a_stage_is_taken_over_where_all_that_it_depends_on_is_the_same(made, tmp_path):
    ours = RunFolder(tmp_path / "ours")
    assert not Kin(made.path).lend("finetune/random", "other", ours)
    assert not Kin(made.path).lend("finetune/anchors", "abc", ours)
    assert not (ours.path / "finetune").exists() and ours.marker("finetune/random") is None
    assert Kin(made.path).lend("finetune/random", "abc", ours)
    assert ours.is_done("finetune/random", "abc")
    marker = ours.marker("finetune/random")
    assert marker is not None
    assert (marker["steps"], marker["seconds"], marker["made_in"]) == (7, 0.0, "made")
    for file in ("dataset/random/part.parquet", "finetune/random/estimator.pt"):
        assert (ours.path / file).samefile(made.path / file)  # no room is taken twice


def test_what_is_gone_is_not_lent_and_who_made_it_first_is_told(made, tmp_path):
    ours, third = RunFolder(tmp_path / "ours"), RunFolder(tmp_path / "third")
    assert Kin(made.path).lend("finetune/random", "abc", ours)
    assert Kin(ours.path).lend("finetune/random", "abc", third)
    marker = third.marker("finetune/random")
    assert marker is not None and marker["made_in"] == "made"
    shutil.rmtree(made.path / "finetune")  # to make room
    assert not Kin(made.path).lend("finetune/random", "abc", RunFolder(tmp_path / "fourth"))
    assert (third.path / "finetune/random/estimator.pt").read_bytes() == b"weights"


def test_what_a_run_goes_on_writing_is_its_own(made, tmp_path):
    ours = RunFolder(tmp_path / "ours")
    Kin(made.path).lend("finetune/random", "abc", ours)
    with (ours.path / "finetune/random/history.jsonl").open("r+") as file:
        file.truncate()
    assert (made.path / "finetune/random/history.jsonl").read_text() == '{"step": 1}\n'


def test_files_are_copied_where_there_are_no_links(made, tmp_path, monkeypatch):
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    ours = RunFolder(tmp_path / "ours")
    assert Kin(made.path).lend("finetune/random", "abc", ours)
    assert (ours.path / "finetune/random/estimator.pt").read_bytes() == b"weights"


def test_what_is_in_the_way_is_replaced_and_no_link_is_followed(made, tmp_path):
    ours = RunFolder(tmp_path / "ours")
    (ours.folder("finetune", "random") / "estimator.pt").write_bytes(b"half of")
    (ours.folder("dataset") / "random").symlink_to(made.path / "dataset" / "random")
    assert Kin(made.path).lend("finetune/random", "abc", ours)
    assert (ours.path / "finetune/random/estimator.pt").read_bytes() == b"weights"
    assert not (ours.path / "dataset" / "random").is_symlink()
    assert (made.path / "dataset/random/part.parquet").read_bytes() == b"rows"


def test_only_a_run_lends(tmp_path):
    with pytest.raises(DataError, match="taken over from a run"):
        Kin(tmp_path)
    assert not list(tmp_path.iterdir())


def test_kin_are_finished_runs_and_another_one_than_the_run_itself(made, tmp_path):
    here = f"run.outputs={tmp_path}"
    with pytest.raises(ConfigError, match=r"(?s)the run 'made' is not finished.*next: posegen run ... run.name=made"):
        kin_of(compose([here, "run.kin=[made]"]))
    (made.path / "summary.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"(?s)no finished run 'mdae'.*made"):
        kin_of(compose([here, "run.kin=[mdae]"]))
    assert [kin.path for kin in kin_of(compose([here, f"run.kin=[{made.path}]"]))] == [made.path]
    assert kin_of(compose([here, "run.name=made", "run.kin=[made]"])) == []
    assert run_name(compose([here, "run.kin=[made]"])) == run_name(compose([here]))


def test_a_run_that_lends_is_not_touched(made, tmp_path):
    before = {file: file.stat().st_mtime_ns for file in made.path.rglob("*")}
    (made.path / "run.json").unlink()  # of a run that is older than records
    (made.path / "config.yaml").write_text("{}")
    Kin(made.path).lend("finetune/random", "abc", RunFolder(tmp_path / "ours"))
    after = {file: file.stat().st_mtime_ns for file in made.path.rglob("*")}
    assert set(before) - set(after) == {made.path / "run.json"}
    assert all(after[file] == before[file] for file in set(before) & set(after) if file.is_file())


class Idle(Workers):
    """Nobody who works: every question is a failure."""

    def __getattribute__(self, name: str) -> object:
        if name in ("render", "train", "finetune", "overlapped"):
            raise AssertionError(f"{name} was asked for")
        return object.__getattribute__(self, name)


def finished(folder: Path, workers: Workers, said: io.StringIO, *words: str) -> Path:
    words = (*SMALL, f"run.outputs={folder}", *words)
    with opened("run", compose(words), workers, Reporter(said), words) as experiment:
        weights = {BEFORE: None, **{arm: experiment.finetune(arm) for arm in experiment.arms}}
        Measured.of(experiment, weights).write_summary()
        return experiment.run.path


def test_a_run_of_another_feedback_takes_all_that_knows_nothing_of_it(assets, tmp_path):
    first = finished(tmp_path, InProcess("cpu"), io.StringIO(), "run.name=first", "feedback=band")
    said = io.StringIO()
    again = finished(tmp_path, Idle(), said, "run.name=again", "feedback=maximise", "run.kin=[first]")
    assert said.getvalue().count("as in first") >= 8
    ours, theirs = (json.loads((run / "summary.json").read_text()) for run in (again, first))
    assert ours["benchmarks"] == theirs["benchmarks"] and ours["budget"] == theirs["budget"]
    assert (again / "target" / "people.npz").samefile(first / "target" / "people.npz")
    assert set(theirs["timings_s"]) == set(ours["timings_s"]) and set(ours["timings_s"].values()) == {0.0}
    drawn = read_people(again / "target" / "people.npz").target.pictures
    assert {Path(picture).is_relative_to(again) and Path(picture).is_file() for picture in drawn} == {True}
    damaged = first / "evaluation" / "random" / "ski-like.parquet"
    damaged.write_bytes(b"cut short")
    mended = finished(tmp_path, Idle(), said, "run.name=mended", "run.kin=[first]")  # measured again
    assert json.loads((mended / "summary.json").read_text())["benchmarks"] == theirs["benchmarks"]
    with pytest.raises(AssertionError, match="was asked for"):  # another seed has nothing in common
        finished(tmp_path, Idle(), io.StringIO(), "run.name=other", "seed=1", f"run.kin=[{first}]")


@pytest.mark.parametrize("feedback", ["band", "regret", "progress", "agreement", "hard_ratio", "score_function"])
def test_the_twin_without_feedback_is_one_for_all_feedbacks(feedback, tmp_path):
    plans = []
    for words in (["feedback=maximise"], [f"feedback={feedback}"]):
        config = compose([*words, f"run.outputs={tmp_path}", "run.name=twins"])
        plans.append(Plans(config, RunFolder(tmp_path / "twins"), "posegen run"))
    twin, method = (ArmRound(arm_of(arm)) for arm in ("no_feedback", "posegen"))
    assert plans[0].generator(twin).digest == plans[1].generator(twin).digest
    assert plans[0].generator(method).digest != plans[1].generator(method).digest


def test_a_table_names_the_finished_runs_of_the_same_seed(tmp_path, monkeypatch):
    table = runpy.run_path(str(Path(__file__).parents[2] / "jobs" / "table.py"))
    runs = [table["Run"]([f"word={name}"], seed, tmp_path / name) for name, seed in (("a", 0), ("b", 1), ("c", 0))]
    calls: list[list[str]] = []
    monkeypatch.setattr(table["subprocess"], "Popen", lambda call, **_: calls.append(call))
    table["begun"](runs[2], runs[:2], 1)
    table["begun"](runs[1], [], 1)
    assert calls[0][2:] == ["word=c", "run.kin=[a]", "--one"]
    assert calls[1][2:] == ["word=b", "--one"]
