"""Ray Train runs give the numbers of the plain loop: on one worker, on two, after a kill, after an interruption."""

from __future__ import annotations

import json
import os

import pytest
import torch
from toy_loops import run_here

from posegen.engine.history import mean_rows, read_history
from posegen.engine.terms import Claim, Place, Reports
from posegen.engine.train import fingerprint_of, run_training
from posegen.errors import CheckpointError, ConfigError, DataError

GAN = "toy_loops:GanLoop"


def assert_same(got, want, tolerance=0.0):
    for net in ("g", "d"):
        for name, value in want[net].items():
            torch.testing.assert_close(got[net][name], value, atol=tolerance, rtol=0)


def test_two_workers_equal_one_with_the_doubled_batch_and_a_second_call_goes_on(ray_cluster, tmp_path):
    config = {"steps": 25, "batch": 16}
    seen = []
    outcome = run_training(
        GAN,
        config,
        Place(tmp_path, "two"),
        claim=Claim(workers=2),
        reports=Reports(seen.append, checkpoint_every=10, every=5),
    )
    assert outcome.steps == 25 and outcome.world_size == 2 and outcome.restarts == 0
    assert_same(outcome.state(), run_here(config), 1e-5)
    rows = read_history(outcome.history)
    assert [row["step"] for row in rows] == list(range(1, 26))
    assert [row["step"] for row in seen] == list(range(1, 26))
    assert outcome.metrics["g_loss"] == rows[-1]["g_loss"]
    assert len(list((tmp_path / "two").glob("checkpoint_2*"))) == 2
    again = run_training(GAN, config, Place(tmp_path, "two"), claim=Claim(workers=2))
    assert again.seconds < 5 and again.resumed_from == 25
    assert_same(again.state(), outcome.state())
    with pytest.raises(CheckpointError, match="another configuration"):
        run_training(GAN, {**config, "batch": 8}, Place(tmp_path, "two"))


@pytest.mark.slow  # the same of a run that streams its rows: test_finetune_stream.py
def test_a_killed_worker_changes_no_number(ray_cluster, tmp_path):
    config = {"steps": 16, "batch": 8}
    killed = {**config, "kill_once": str(tmp_path / "pid"), "kill_at": 11}
    outcome = run_training(GAN, killed, Place(tmp_path, "killed"), reports=Reports(checkpoint_every=4, every=1))
    assert (tmp_path / "pid").read_text() != str(os.getpid())
    assert outcome.restarts == 1
    assert_same(outcome.state(), run_here(config))
    assert [row["step"] for row in read_history(outcome.history)] == list(range(1, 17))


def test_an_error_of_ours_ends_the_run_at_once_and_later_steps_go_on_from_the_checkpoint(ray_cluster, tmp_path):
    config = {"steps": 8, "batch": 8}
    place, reports = Place(tmp_path, "f", fingerprint="x"), Reports(checkpoint_every=5)
    with pytest.raises(DataError, match=r"(?s)cut short.*part-7"):
        run_training(GAN, {**config, "fail_at": 6}, place, reports=reports)
    outcome = run_training(GAN, config, place, reports=reports)
    assert outcome.resumed_from == 5
    assert_same(outcome.state(), run_here(config))


def test_reports_wait_for_the_clock_and_for_the_steps(monkeypatch):
    from posegen.engine import worker

    now = [100.0]
    monkeypatch.setattr(worker.time, "monotonic", lambda: now[0])
    clock = worker.ReportClock(every_steps=5, interval_s=1.0, world_size=1)
    assert not clock.due(5)
    now[0] = 101.5
    assert clock.due(10) and not clock.due(11)
    clock.reported()
    assert not clock.due(15)


def test_rows_of_the_ranks_are_averaged_step_by_step():
    ranks = [[{"step": 1, "a": 1.0}, {"step": 2, "a": 3.0}], [{"step": 1, "a": 3.0}, {"step": 2, "a": 5.0}]]
    assert mean_rows(ranks) == [{"step": 1, "a": 2.0}, {"step": 2, "a": 4.0}]


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text(json.dumps({"step": 1, "a": 2.0}) + '\n{"step": 2, "a"')
    assert read_history(path) == [{"step": 1, "a": 2.0}]


def test_fingerprint_sees_every_value_and_no_order():
    assert fingerprint_of({"a": 1, "b": {"c": 2}}) == fingerprint_of({"b": {"c": 2}, "a": 1})
    assert fingerprint_of({"a": 1}) != fingerprint_of({"a": 2})


def test_unknown_kinds_and_bad_intervals_are_named():
    from posegen.loops import loop_class

    with pytest.raises(ConfigError, match=r"(?s)'adversrial'.*adversarial, finetune"):
        loop_class("adversrial")
    with pytest.raises(ConfigError, match="checkpoint_every"):
        Reports(checkpoint_every=0)
