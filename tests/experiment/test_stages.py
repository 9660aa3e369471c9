"""A stage is done once, again when its inputs change, and never half."""

import errno
import json
import os
import stat
import time
from contextlib import suppress

import pytest

from posegen.errors import DataError
from posegen.experiment.run_record import marker_name
from posegen.experiment.stages import RunFolder, digest_of, stage_times, wall_seconds
from posegen.files.atomic import replacing, sweep_partials


def test_a_stage_runs_once_and_again_when_its_inputs_change(tmp_path):
    run, calls = RunFolder(tmp_path / "run"), []

    def work():
        calls.append(1)
        return {"rows": 3}

    first = run.run_stage("dataset/random", "a", work)
    again = RunFolder(tmp_path / "run").run_stage("dataset/random", "a", work)
    assert (first["fresh"], again["fresh"], again["rows"], len(calls)) == (True, False, 3, 1)
    run.run_stage("dataset/random", "b", work)
    assert len(calls) == 2
    assert run.is_done("dataset/random", "b")


def test_of_stages_side_by_side_each_second_counts_once(tmp_path):
    run = RunFolder(tmp_path / "run")
    for stage, seconds, ended in (("source", 10, 1010), ("finetune/a", 30, 1040), ("finetune/b", 5, 1020)):
        run.run_stage(stage, "a", lambda seconds=seconds: {"seconds": seconds})
        os.utime(run.stages / marker_name(stage), (ended, ended))
    run.run_stage("later", "a", lambda: {"seconds": 2})  # another day
    os.utime(run.stages / "later.json", (5000, 5000))
    markers = {stage: run.marker(stage) for stage in ("source", "finetune/a", "finetune/b", "later")}
    times = stage_times(run.path, markers)
    assert times["finetune/b"] == (1015, 1020)
    assert wall_seconds(times.values()) == 42
    assert wall_seconds([]) == 0


def test_an_interrupted_stage_leaves_no_marker(tmp_path):
    run = RunFolder(tmp_path / "run")

    def work():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run_stage("generate/posegen", "a", work)
    assert run.marker("generate/posegen") is None


def test_a_marker_cut_short_counts_as_none(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.run_stage("source", "a", lambda: {})
    (run.stages / "source.json").write_text('{"stage": "sou')
    assert not run.is_done("source", "a")


def test_a_full_disk_keeps_earlier_stages_and_says_so(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.run_stage("source", "a", lambda: {"rows": 1})

    def work():
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match="disk is full"):
        run.run_stage("dataset/random", "a", work)
    assert run.is_done("source", "a")


def test_digest_depends_on_values_not_on_order():
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


def test_json_is_written_whole(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.write_json(run.path / "summary.json", {"x": 1})
    assert json.loads((run.path / "summary.json").read_text()) == {"x": 1}
    assert [p.name for p in run.path.iterdir() if p.is_file() and p.name != "run.json"] == ["summary.json"]


def test_a_clock_that_is_set_back_makes_no_negative_time(tmp_path, monkeypatch):
    now = [1e9]
    monkeypatch.setattr(time, "time", lambda: now[0])

    def work():
        now[0] -= 3600

    assert RunFolder(tmp_path / "r").run_stage("a", "d", work)["seconds"] >= 0


def test_what_a_killed_writer_left_is_swept_once_nobody_writes_it(tmp_path):
    def killed(path):
        kept = path.with_name("kept")
        with suppress(KeyboardInterrupt), replacing(path) as partial:
            partial.write_text("half")
            os.link(partial, kept)
            raise KeyboardInterrupt
        os.rename(kept, partial)
        return partial

    old, fresh = killed(tmp_path / "dataset" / "rows.pt"), killed(tmp_path / "summary.json")
    os.utime(old, (1e9, 1e9))
    for name in (".lock", ".hidden.part", "summary.json", ".a.1-zz.part"):
        (tmp_path / name).write_text("mine")
        os.utime(tmp_path / name, (1e9, 1e9))
    assert sweep_partials(tmp_path) == [old]
    assert fresh.is_file() and (tmp_path / ".hidden.part").is_file()
    os.utime(fresh, (4e9, 4e9))  # the clock was set back
    assert sweep_partials(tmp_path) == [fresh]


def test_a_secret_is_nobody_elses_from_its_first_byte_on(tmp_path):
    before = os.umask(0o022)
    try:
        with replacing(tmp_path / "token", mode=0o600) as partial:
            partial.write_text("half")
            assert stat.S_IMODE(partial.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    finally:
        os.umask(before)
