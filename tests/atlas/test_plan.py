"""From the words of a command line to what is rendered, measured and compared, and where it goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posegen.atlas.command import check, with_target
from posegen.atlas.plan import config_of_run, plan_of
from posegen.config import compose, plain
from posegen.errors import ConfigError, DataError
from posegen.experiment.run_record import ensure_record
from posegen.progress import Reporter


@pytest.fixture
def a_run(tmp_path: Path) -> Path:
    """What `posegen run` leaves behind, as far as a plan looks at it."""
    config = plain(compose(["image_size=48", "seed=3", "rounds=2", "dataset.arms=[mocap,posegen]"]))
    run = tmp_path / "mine"
    run.mkdir()
    ensure_record(run)
    for arm in ("mocap", "posegen-round2"):
        (run / "finetune" / arm).mkdir(parents=True)
        (run / "finetune" / arm / "estimator.pt").write_bytes(b"weights of " + arm.encode())
    (run / "summary.json").write_text(
        json.dumps({"run": "mine", "arms": ["before", "mocap", "posegen"], "config": config})
    )
    return run


def test_defaults_draw_four_thousand_scenes_of_the_pool():
    plan = plan_of([])
    assert plan.sources == {"pool": 4000}
    assert plan.after is None
    assert plan.run is None


def test_short_words_stand_for_the_atlas_own_keys(tmp_path: Path):
    weights = tmp_path / "tuned.pt"
    weights.write_bytes(b"weights")
    plan = plan_of(["scenes=50", f"after={weights}", "atlas.groups=5"])
    assert plan.sources == {"pool": 50}
    assert plan.after == weights
    assert plan.after_label == "tuned"
    assert plan.settings.groups == 5


def test_pictures_are_shared_between_estimators_and_errors_are_not(tmp_path: Path):
    one, two = plan_of(["scenes=50"]), plan_of(["scenes=50", "estimator=efficientnet", "estimator.random=true"])
    assert one.scene_digest("pool") == two.scene_digest("pool")
    assert one.measured_key(None) != two.measured_key(None)
    assert one.folder != two.folder
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"w")
    assert one.measured_key(weights) != one.measured_key(None)


@pytest.mark.parametrize("word", ["seed=1", "image_size=64", "mocap.path={}", "scenes=60", "estimator=blazepose"])
def test_other_scenes_have_another_folder(word: str, tmp_path: Path):
    """BlazePose is among them because it crops in another way."""
    plan = plan_of(["scenes=50", word.format(tmp_path)])
    assert plan.scene_folder("pool") != plan_of(["scenes=50"]).scene_folder("pool")


def test_the_same_words_find_the_same_folder():
    assert plan_of(["scenes=50"]).folder == plan_of(["scenes=50"]).folder


def test_a_run_gives_estimator_scenes_and_the_weights_of_its_last_round(a_run: Path):
    plan = plan_of(["run=mine", f"run.outputs={a_run.parent}", "scenes=40"])
    assert plan.run == a_run
    assert plan.folder == a_run / "atlas"
    assert (plan.config.image_size, plan.config.seed) == (48, 3)
    assert plan.after == a_run / "finetune" / "posegen-round2" / "estimator.pt"
    assert plan.after_label == "PoseGen"
    assert plan.sources == {"pool": 40}


def test_people_that_cannot_be_read_are_told_before_anything_is_rendered(tmp_path: Path):
    (tmp_path / "lifted.npz").write_bytes(b"no people")
    plan = plan_of([f"target.lifted={tmp_path / 'lifted.npz'}", f"run.outputs={tmp_path}", "scenes=40"])
    with pytest.raises(DataError, match=r"(?s)cut short or damaged.*lifted\.npz"):
        check(plan, Reporter())


def test_the_people_that_a_run_has_lifted_are_the_atlas_target(a_run: Path):
    summary = json.loads((a_run / "summary.json").read_text())
    summary["config"]["target"]["embedded"] = ["ski-like"]
    (a_run / "summary.json").write_text(json.dumps(summary))
    (a_run / "target").mkdir()
    (a_run / "target" / "lifted.npz").write_bytes(b"people")
    words = ["run=mine", f"run.outputs={a_run.parent}", "scenes=40"]
    plan = plan_of(words)
    assert plan.config.target.lifted == str(a_run / "target" / "lifted.npz") and plan.sources["target"] == 1000
    assert with_target(plan, Reporter()) == plan  # nothing is lifted again
    assert plan_of([*words, "target=none"]).sources == {"pool": 40}


def test_target_parts_that_only_a_run_can_lift_are_not_left_out_in_silence():
    with pytest.raises(ConfigError, match="lifted by a run"):
        with_target(plan_of(["target=embedded"]), Reporter())


def test_an_arm_of_a_run_can_be_chosen(a_run: Path):
    plan = plan_of(["run=mine", f"run.outputs={a_run.parent}", "arm=mocap"])
    assert plan.after == a_run / "finetune" / "mocap" / "estimator.pt"
    with pytest.raises(ConfigError, match="no fine-tuned arm 'random'") as refused:
        plan_of(["run=mine", f"run.outputs={a_run.parent}", "arm=random"])
    assert refused.value.choices == ["mocap", "posegen"]


def test_weights_that_are_gone_are_named(a_run: Path):
    (a_run / "finetune" / "mocap" / "estimator.pt").unlink()
    with pytest.raises(DataError, match="weights of arm 'mocap'"):
        plan_of(["run=mine", f"run.outputs={a_run.parent}", "arm=mocap"])


def test_with_a_run_nothing_of_its_own_is_overridden(a_run: Path):
    with pytest.raises(ConfigError, match="the run's own"):
        plan_of(["run=mine", f"run.outputs={a_run.parent}", "seed=1"])


def test_an_arm_without_a_run_and_a_run_that_is_not_there(tmp_path: Path):
    with pytest.raises(ConfigError, match="an arm is of a run"):
        plan_of(["arm=mocap"])
    with pytest.raises(ConfigError, match="no finished run 'gone'"):
        plan_of(["run=gone", f"run.outputs={tmp_path}"])


def test_the_target_is_the_runs_unless_the_command_names_one():
    stored = plain(compose(["seed=3"]))
    stored["target"]["hypotheses"] = 4
    given = compose(["target.hypotheses=2"])
    assert config_of_run(stored, given, told_target=False).target.hypotheses == 4
    assert config_of_run(stored, given, told_target=True).target.hypotheses == 2
