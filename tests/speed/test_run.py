"""The breakdown of a run: seconds of its stages, and of its trainings what they trained, waited and did else."""

import json

import pytest
from run import breakdown, overrides_of, table


def left_by(run, name, seconds, rows=()):
    (run / "stages").mkdir(parents=True, exist_ok=True)
    (run / "stages" / f"{name.replace('/', '--')}.json").write_text(json.dumps({"stage": name, "seconds": seconds}))
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
    last = table(list(stages.values())).splitlines()[-1].split()
    assert [float(word) for word in last[1:]] == pytest.approx([19.0, 5.0, 1.5, 2.5])


def test_the_words_of_a_run_are_read_back(tmp_path):
    text = "# posegen run experiment=smoke 'dataset.arms=[random]' run.outputs=/x run.name=a\nseed: 0\n"
    (tmp_path / "config.yaml").write_text(text)
    assert overrides_of(tmp_path) == ["experiment=smoke", "dataset.arms=[random]"]
