"""Differences between arms over trainings: what moves with the seed is in the interval; few seeds settle nothing."""

from __future__ import annotations

import numpy as np
import pytest

from posegen.benchmarks.measure.trainings import FEWEST, Judged, Trainings, judge
from posegen.errors import DataError

IMAGES = 60
GROUPS = [f"clip{i // 6}" for i in range(IMAGES)]


def arm(offsets: list[float]) -> list[np.ndarray]:
    """A training each: the same images, all errors moved by what that training came to."""
    base = np.random.default_rng(0).uniform(80, 120, IMAGES)
    return [base + offset for offset in offsets]


def judged(first: list[float], second: list[float]) -> Judged:
    return judge({"a": Trainings.of(arm(first), arm(second), GROUPS)}, 0, resamples=2000)


def test_the_same_gain_in_every_training_is_clear_with_five_and_not_with_four():
    five, four = judged([0] * FEWEST, [-10.0] * FEWEST), judged([0] * 4, [-10.0] * 4)
    mean = float(arm([0.0])[0].mean())
    assert five.value == pytest.approx(100 * -10 / mean) == four.value
    assert five.high < 0 and five.clear and five.verdict("x", "y") == "x errs less"
    assert four.high < 0 and not four.clear and four.verdict("x", "y") == "4 trainings each; needs at least 5 seeds"


def test_one_training_each_is_never_clear():
    one = judged([0.0], [-50.0])
    assert one.high < 0 and not one.clear and one.verdict("x", "y") == "one training each; needs at least 5 seeds"


def test_what_moves_with_the_seed_widens_the_interval():
    """Gains of -12, 4, -9, 6, -4: the spread of five trainings, which images alone would not show."""
    gains = [-12.0, 4.0, -9.0, 6.0, -4.0]
    wide, narrow = judged([0] * 5, gains), judged([0] * 5, [-3.0] * 5)
    assert wide.value == pytest.approx(narrow.value) and not wide.clear and narrow.clear
    mean = float(arm([0.0])[0].mean())
    expected = 1.96 * 100 * np.std(gains) / np.sqrt(5) / mean
    assert (wide.high - wide.low) / 2 == pytest.approx(expected, rel=0.15)


def test_what_both_arms_share_of_a_seed_is_paired_away():
    shared = [0.0, 20.0, -15.0, 30.0, 5.0]
    paired = judged(shared, [value - 5 for value in shared])
    assert paired.clear and paired.high - paired.low < 2.0


def test_one_group_ties_and_missing_images():
    first, second = arm([0.0] * 5), arm([-2.0] * 5)
    second[3][7] = np.nan  # one failed image of one training is left out of all
    result = judge({"a": Trainings.of(first, second, ["one"] * IMAGES)}, 0, resamples=500)
    kept = np.arange(IMAGES) != 7
    assert result.value == pytest.approx(100 * -2 / first[0][kept].mean())
    assert result.low < result.high < 0  # images are drawn: no interval of width zero from a single group
    same = judge({"a": Trainings.of(first, arm([0.0] * 5), GROUPS)}, 0, resamples=200)
    assert (same.value, same.low, same.high) == (0, 0, 0) and not same.clear
    none = judge({"a": Trainings.of(first, [np.full(IMAGES, np.nan)] * 5, GROUPS)}, 0, resamples=200)
    assert np.isnan(none.value) and not none.clear


def test_benchmarks_are_averaged_and_weigh_alike():
    data = {
        "a": Trainings.of([np.full(10, 100.0)] * 5, [np.full(10, 90.0)] * 5, list("aabbccddee")),
        "b": Trainings.of([np.full(4, 50.0)] * 5, [np.full(4, 60.0)] * 5, list("abcd")),
    }
    result = judge(data, 0, resamples=100)
    assert (result.value, result.low, result.high) == pytest.approx((5, 5, 5))
    with pytest.raises(DataError, match="differ in their number of trainings"):
        judge(data | {"c": Trainings.of([np.ones(1)], [np.ones(1)], ["a"])}, 0)
    with pytest.raises(DataError, match="cannot pair 1 and 2 trainings"):
        Trainings.of([np.ones(2)], [np.ones(2)] * 2, ["a", "b"])
