"""Groups, names, shares and the tree on people whose groups are known."""

from __future__ import annotations

import numpy as np
import pytest
from people import arms_up, bent_forward, crouched, crowd, lying, measured_with, sample_of_people, standing

from posegen.atlas.analysis import as_json, build_atlas, rows_table, tail_changes, tails
from posegen.atlas.clusters import assign, describe, mended, part_errors, regressions, shown_rows
from posegen.atlas.config import AtlasConfig
from posegen.atlas.facts import FactTable
from posegen.atlas.features import features_of
from posegen.atlas.sample import Sample
from posegen.atlas.tree import conditions, fit_tree
from posegen.atlas.words import distinct, name_of, words_of

SETTINGS = AtlasConfig(scenes=120, groups=3, mapped=60)


def named(people: list[np.ndarray], azimuth: float, elevation: float, others: Sample | None = None) -> str:
    count = len(people)
    sample = sample_of_people(people, [azimuth] * count, [elevation] * count)
    sample = sample if others is None else Sample.joined([sample, others])
    chosen = np.arange(len(sample)) < count
    return name_of(words_of(sample.facts), chosen)


@pytest.fixture(scope="module")
def plain() -> Sample:
    """Those from whom a name tells a group apart: people standing, seen level from the front."""
    return sample_of_people([standing()] * 30, [0.0] * 30, [0.0] * 30)


def test_names_say_stance_view_and_what_sets_apart(plain: Sample):
    assert named([standing()], 0, 0).startswith("upright")
    assert named([bent_forward()] * 5, 180, 45, plain).startswith("bent forward, seen from above and behind")
    assert named([crouched()] * 5, 90, 0, plain).startswith("crouched, legs drawn up, seen from the side")
    assert named([arms_up()] * 5, 0, -25, plain).startswith("upright, arms raised, seen from below and the front")
    assert "lying" in named([lying()] * 5, 90, 10, plain)


def test_what_half_of_a_group_has_is_told_as_often(plain: Sample):
    mixed = [arms_up()] * 4 + [standing()] * 6
    assert "often arms raised" in named(mixed, 0, 0, plain)


def test_kin_of_words_are_counted_together(plain: Sample):
    one = arms_up()
    one[[19, 21, 23]] = standing()[[19, 21, 23]]  # the right arm hangs
    assert "an arm raised" in named([arms_up()] * 4 + [one] * 4 + [standing()] * 2, 0, 0, plain)


def test_equal_names_are_numbered():
    assert distinct(["a", "b", "a"]) == ["a (1)", "b", "a (2)"]


def test_three_kinds_of_people_make_three_groups():
    sample, kind = crowd()
    found = assign(features_of(sample).all(), 3, seed=0)
    assert all(len(np.unique(found[kind == number])) == 1 for number in range(3))
    assert len(np.unique(found)) == 3


def test_a_mirrored_person_is_in_the_same_place():
    joints = bent_forward()
    joints[20] += [0.1, 0.3, 0.2]  # one wrist elsewhere
    other = joints[[0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22]] * [-1, 1, 1]
    sample = sample_of_people([joints, other, standing()], [70.0, -70.0, 0.0], [10.0, 10.0, 0.0])
    features = features_of(sample).all()
    assert np.abs(features[0] - features[1]).max() < 1e-4
    assert np.abs(features[0] - features[2]).max() > 0.1


@pytest.fixture(scope="module")
def atlas():
    pool, kind = crowd(seed=0)
    target, of_target = crowd(each=20, seed=1, source="target")
    target = target.take(of_target > 0)  # the target has no people who stand
    sample, kinds = Sample.joined([pool, target]), np.concatenate([kind, of_target[of_target > 0]])
    before = np.array([100.0, 200.0, 400.0])[kinds] + np.random.default_rng(2).normal(0, 5, len(kinds))
    after = before + np.array([30.0, 0.0, -100.0])[kinds] + np.random.default_rng(3).normal(0, 5, len(kinds))
    return build_atlas(sample, measured_with(sample, before), measured_with(sample, after), SETTINGS)


def test_groups_come_worst_first_with_their_shares(atlas):
    worst, middle, best = atlas.groups
    assert [group.number for group in atlas.groups] == [1, 2, 3]
    assert "lying" in worst.name
    assert worst.mean_mm.value == pytest.approx(400, abs=3)
    assert worst.mean_mm.low < 400 < worst.mean_mm.high + 3
    assert worst.worst_mm > worst.mean_mm.value
    assert worst.common == {"pool": pytest.approx(1 / 3), "target": pytest.approx(1 / 2)}
    assert best.common["target"] == 0
    assert middle.carried["pool"] == pytest.approx(200 / 700, abs=0.01)
    for source in ("pool", "target"):
        assert sum(group.common[source] for group in atlas.groups) == pytest.approx(1)
        assert sum(group.carried[source] for group in atlas.groups) == pytest.approx(1)
    assert sorted(np.concatenate([group.rows for group in atlas.groups])) == list(range(len(atlas.sample)))


def test_regressions_and_gains_are_told_apart_from_noise(atlas):
    assert [group.number for group in regressions(atlas.groups)] == [3]
    assert [group.number for group in mended(atlas.groups)] == [1]
    assert regressions(atlas.groups)[0].change_mm.value == pytest.approx(30, abs=2)


def test_changes_that_are_noise_are_not_told_however_many_groups_are_looked_at():
    """At 95 % each, 1 of 20 groups would seem to have changed; over 12 draws of 20 groups that is 12."""
    told = 0
    sample, _ = crowd(each=100)
    words = words_of(sample.facts)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        before = rng.uniform(100, 300, len(sample))
        after = before + rng.normal(0, 20, len(sample))
        groups = describe(
            np.arange(len(sample)) % 20, before, before[:, None], ["neck"], sample.source, words, 0, after
        )
        told += len(regressions(groups)) + len(mended(groups))
    assert told <= 4


def test_changes_of_the_tail_are_paired():
    before = np.concatenate([np.full(90, 100.0), np.full(10, 400.0)])
    after = np.where(before > 200, 300.0, 100.0)
    changes = tail_changes(before, after)
    assert changes["worst_10_mm"].value == pytest.approx(-100)
    assert changes["mean_mm"].value == pytest.approx(-10)
    assert changes["mean_mm"].high < 0
    assert changes["over_150_mm"].value == 0
    assert not changes["over_150_mm"].excludes_zero


def test_tails():
    figures = tails(np.array([100.0] * 18 + [200.0, 400.0]))
    assert figures["worst_5_mm"] == 400
    assert figures["worst_10_mm"] == 300
    assert figures["over_150_mm"] == pytest.approx(0.1)
    assert figures["mean_mm"] == 120


def test_left_and_right_joints_are_one_part_and_the_root_is_none():
    errors = np.array([[0.0, 10.0, 30.0, 5.0]])
    parts = part_errors(errors, ["pelvis", "left_wrist", "right_wrist", "neck"])
    assert parts == {"wrist": 20.0, "neck": 5.0}
    assert list(parts) == ["wrist", "neck"]


def test_shown_pictures_go_from_the_worst_to_the_median():
    errors = np.arange(100.0)
    rows = shown_rows(np.arange(100), errors, 5)
    assert rows[0] == 99
    assert rows[-1] == 50
    assert rows == sorted(rows, reverse=True)
    assert shown_rows(np.arange(3), errors, 5) == [2, 1, 0]


def test_the_tree_finds_the_condition_that_made_the_error():
    sample, _ = crowd(each=80)
    facts = sample.facts
    rng = np.random.default_rng(0)
    hidden = rng.uniform(0, 1, len(sample))
    facts = FactTable({**facts.numbers, "contrast": hidden}, facts.labels)
    errors = np.where(hidden > 0.7, 300.0, 100.0)
    tree = fit_tree(facts, errors)
    assert tree.top.fact == "contrast"
    assert tree.top.threshold == pytest.approx(0.7, abs=0.02)
    assert tree.explained > 0.95
    ways, leaf = tree.leaves()[0]
    assert leaf.mean_mm == pytest.approx(300)
    assert ways[0] == "contrast above 0.70"
    assert leaf.share == pytest.approx((hidden > 0.7).mean(), abs=0.02)
    assert sum(branch.share for _, branch in tree.leaves()) == pytest.approx(1)
    assert sum(branch.carried for _, branch in tree.leaves()) == pytest.approx(1)
    assert sum(branch.count for _, branch in tree.leaves()) == len(sample)


def test_a_narrower_condition_takes_the_place_of_a_wider_one():
    sample, _ = crowd(each=100)
    contrast = np.linspace(0, 1, len(sample))
    facts = FactTable({**sample.facts.numbers, "contrast": contrast}, sample.facts.labels)
    tree = fit_tree(facts, 100 + 300 * contrast**2)
    for ways, _ in tree.leaves():
        assert sum(way.startswith("contrast above") for way in ways) <= 1
        assert sum(way.startswith("contrast at most") for way in ways) <= 1


@pytest.mark.parametrize(
    ("fact", "threshold", "less", "more"),
    [
        ("elevation_deg", 30.2, "camera at most 30° above the horizon", "camera more than 30° above the horizon"),
        ("elevation_deg", -12.0, "camera more than 12° below the horizon",
         "camera no lower than 12° below the horizon"),
        ("background=room", 0.5, "not before a room", "before a room"),
        ("subject=amber", 0.5, "not person amber", "person amber"),
        ("hidden", 0.25, "at most 25 % of the limbs' joints behind the own body",
         "more than 25 % of the limbs' joints behind the own body"),
    ],
)  # fmt: skip
def test_conditions_in_words(fact: str, threshold: float, less: str, more: str):
    assert conditions(fact, threshold) == (less, more)


def test_json_has_no_nan_and_adds_up(atlas):
    told = as_json(atlas, {"estimator": "toy"})
    import json

    assert json.loads(json.dumps(told, allow_nan=False))["estimator"] == "toy"
    assert told["pictures"] == {"pool": 120, "target": 40}
    assert sum(len(group["rows"]) for group in told["groups"]) == 160
    assert told["regressions"] == [3]
    assert told["figures"]["pool"]["after"]["mean_mm"] < told["figures"]["pool"]["before"]["mean_mm"]
    for bins in told["conditions"].values():
        assert sum(entry["pictures"] for entry in bins) == 160


def test_one_row_a_picture_for_machines(atlas):
    table = rows_table(atlas)
    assert table.num_rows == 160
    assert {"source", "row_id", "group", "mpjpe_mm", "after_mpjpe_mm", "elevation_deg", "background"} <= set(
        table.column_names
    )
    assert table.column("group").to_pylist() == atlas.of_group.tolist()


def test_errors_do_not_decide_who_is_grouped_with_whom():
    sample, _ = crowd(each=20)
    words = words_of(sample.facts)
    found = assign(features_of(sample).all(), 3, 0)
    rng = np.random.default_rng(0)
    for _ in range(2):
        errors = rng.uniform(50, 500, len(sample))
        groups = describe(found, errors, errors[:, None], ["neck"], sample.source, words)
        sets = {frozenset(group.rows.tolist()) for group in groups}
        assert sets == {frozenset(np.flatnonzero(found == number).tolist()) for number in range(3)}
