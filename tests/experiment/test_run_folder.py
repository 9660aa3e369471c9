"""Run directories: their names stay inside the outputs folder, and only a run directory is ever cleared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posegen.config import PosegenConfig, run_name, run_path
from posegen.config.schema import RunConfig
from posegen.errors import ConfigError, DataError
from posegen.experiment.run_folders import RUN_FILE
from posegen.experiment.run_record import read_record
from posegen.experiment.stages import RunFolder
from posegen.files.names import check_part, inside

BAD = [
    "", ".", "..", "../x", "a/../../x", "/x", "a//b", "a/", "~/x", "-rf", ".hidden", "a/.b", "latest", "Latest",
    "latest/x", "mlartifacts", "mlflow.db", "mlflow.db-wal", "sweeps/a", "a'b", 'a"b', "a\nb", "a\0b", "a\\b",
    "x" * 151, " a", "a ", "a.", "/".join(["ab"] * 80), "\u202eabc",
]  # fmt: skip
GOOD = ["tuesday", "exp/r1", "quickstart-seed0-1a2b3c4d", "größe 3 (b)", "a.b,c=d+e@f", "1e5"]


def config(name, outputs="outputs", experiment="smoke"):
    return PosegenConfig(experiment_name=experiment, run=RunConfig(name=name, outputs=str(outputs)))


@pytest.mark.parametrize("name", BAD)
def test_names_that_lead_elsewhere_are_refused_and_the_rule_is_told(name, tmp_path):
    with pytest.raises(ConfigError, match="cannot name a run") as told:
        run_path(config(name, tmp_path))
    assert "exp/r1" in str(told.value)


@pytest.mark.parametrize("name", GOOD)
def test_other_names_are_folders_inside_the_outputs(name, tmp_path):
    assert run_path(config(name, tmp_path)) == tmp_path / name


def test_an_experiments_name_is_held_to_the_same_rule():
    with pytest.raises(ConfigError, match="experiment_name"):
        run_name(config(None, experiment="../../x"))


def test_a_sweeps_name_is_one_folder():
    assert check_part("small", "a sweep", "sweep.name") == "small"
    for bad in ("..", "a/b", ""):
        with pytest.raises(ConfigError, match="cannot name a sweep"):
            check_part(bad, "a sweep", "sweep.name")


def test_a_link_in_the_outputs_does_not_lead_out_of_them(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "mine").symlink_to(tmp_path / "precious")
    for name in ("mine", "mine/r1"):
        with pytest.raises(ConfigError, match="is a link, or behind one"):
            inside(tmp_path / "o", name)
    (tmp_path / "other").symlink_to(tmp_path / "o")  # the outputs folder itself may be one
    assert inside(tmp_path / "other", "r1") == tmp_path / "other" / "r1"


def test_clearing_takes_a_run_away_and_follows_no_link(tmp_path):
    kept = tmp_path / "kept"
    (kept / "deep").mkdir(parents=True)
    (kept / "deep" / "file").write_text("precious")
    run = RunFolder(tmp_path / "run")
    run.run_stage("source", "a", lambda: {})
    first = run.record.id
    (run.path / "dataset").mkdir()
    (run.path / "dataset" / "source").symlink_to(kept)
    (run.path / "direct").symlink_to(kept)
    (run.path / ".lock").write_text("held")
    run.clear()
    assert sorted(entry.name for entry in run.path.iterdir()) == [".lock", RUN_FILE, "stages"]
    assert not run.is_done("source", "a")
    assert (kept / "deep" / "file").read_text() == "precious"
    assert run.record.id != first and read_record(run.path) == run.record


def test_a_folder_that_is_no_run_is_neither_begun_in_nor_cleared(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"no run directory: it holds thesis\.tex"):
        RunFolder(folder)
    run = RunFolder(tmp_path / "run")
    (run.path / RUN_FILE).unlink()
    (run.path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="only a run directory is cleared"):
        run.clear()
    moved = tmp_path / "moved"
    real = RunFolder(tmp_path / "real")
    real.path.rename(moved)
    real.path.symlink_to(moved)
    with pytest.raises(DataError, match="only a run directory is cleared"):
        real.clear()
    assert (moved / RUN_FILE).is_file() and (run.path / "thesis.tex").is_file() and (folder / "thesis.tex").is_file()


def test_each_run_has_an_id_of_its_own_and_keeps_it(tmp_path):
    one, other = RunFolder(tmp_path / "a" / "r"), RunFolder(tmp_path / "b" / "r")
    assert one.record.id and one.record.id != other.record.id
    assert RunFolder(one.path).record == one.record


def test_a_directory_of_a_newer_format_is_refused_by_name(tmp_path):
    run = RunFolder(tmp_path / "run")
    stored = json.loads((run.path / RUN_FILE).read_text())
    (run.path / RUN_FILE).write_text(json.dumps({**stored, "format": 2, "posegen": "9.1"}))
    with pytest.raises(DataError, match=r"made by posegen 9\.1, has format 2; this version .* reads up to 1"):
        RunFolder(run.path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"kind": "posegen run directory", "format": "1"}'])
def test_a_damaged_record_is_told_with_the_cure(text, tmp_path):
    run = RunFolder(tmp_path / "run")
    (run.path / RUN_FILE).write_text(text)
    with pytest.raises(DataError) as told:
        RunFolder(Path(run.path))
    assert f"rm {run.path / RUN_FILE}" in str(told.value)
