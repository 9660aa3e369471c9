"""The breakdown of a run: seconds of its stages, and of its trainings what they trained, waited and did else."""

import json
import os

import pytest
from idle import Sample, idle_share
from run import StageTime, breakdown, on_the_wall, overrides_of, table

from posegen.experiment.run_record import marker_name


def left_by(run, name, seconds, rows=()):
    (run / "stages").mkdir(parents=True, exist_ok=True)
    (run / "stages" / marker_name(name)).write_text(json.dumps({"stage": name, "seconds": seconds}))
    if rows:
        (run / name).mkdir(parents=True)
        (run / name / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_training_is_split_and_other_stages_are_not(tmp_path):
    left_by(tmp_path, "dataset/source", 10.0)
    rows = [{"step": 1}, {"step": 2, "worked_s": 3.0, "waited_s": 1.0}, {"step": 3, "worked_s": 2.0, "waited_s": 0.5}]
    left_by(tmp_path, "finetune/random", 9.0, rows)
    stages = {stage.name: stage for stage in breakdown(tmp_path)}
    assert stages["dataset/source"].rest is None and stages["dataset/source"].seconds == 10.0
    tuned = stages["finetune/random"]
    assert (tuned.trained, tuned.waited, tuned.rest) == pytest.approx((5.0, 1.5, 2.5))
    last = table(list(stages.values())).splitlines()[-2].split()
    assert [float(word) for word in last[1:]] == pytest.approx([19.0, 5.0, 1.5, 2.5])


def test_seconds_of_stages_side_by_side_count_once(tmp_path):
    for name, seconds, ended in (("dataset/source", 10.0, 110.0), ("finetune/a", 30.0, 140.0), ("finetune/b", 20, 135)):
        left_by(tmp_path, name, seconds)
        os.utime(tmp_path / "stages" / marker_name(name), (ended, ended))
    assert on_the_wall(breakdown(tmp_path)) == pytest.approx(40.0)  # from 100 to 140
    assert table(breakdown(tmp_path)).splitlines()[-1].split() == ["on", "the", "wall", "40.0"]


def test_the_words_of_a_run_are_read_back(tmp_path):
    text = "# posegen run experiment=smoke 'dataset.arms=[random]' run.outputs=/x run.name=a\nseed: 0\n"
    (tmp_path / "config.yaml").write_text(text)
    assert overrides_of(tmp_path) == ["experiment=smoke", "dataset.arms=[random]"]


def test_idle_cores_are_counted_while_a_stage_is_at_work():
    samples = [Sample(at, idle, 2.0 * at) for at, idle in ((100.0, 0.0), (102.0, 3.0), (104.0, 4.0), (106.0, 8.0))]
    stage = StageTime("finetune/a", 3.0, 2.0, 0.5, ended=104.5)  # from 101.5: the middle interval alone
    assert idle_share(samples, [stage]) == pytest.approx(1 / 4)
    assert idle_share(samples, [stage, StageTime("generate/b", 2.0, ended=106.0)]) == pytest.approx(5 / 8)
