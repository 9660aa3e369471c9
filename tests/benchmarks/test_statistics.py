"""Bootstrap intervals: determinism, coverage of known cases, and groups that widen them."""

from __future__ import annotations

import numpy as np
import pytest

from posegen.benchmarks.measure.statistics import bootstrap_mean, paired_bootstrap
from posegen.errors import DataError


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(0).normal(size=200)
    assert bootstrap_mean(values, 1) == bootstrap_mean(values, 1)
    assert bootstrap_mean(values, 1) != bootstrap_mean(values, 2)


def test_the_interval_is_that_of_the_normal_theory():
    values = np.random.default_rng(0).normal(10, 2, size=400)
    interval = bootstrap_mean(values, 0, resamples=20_000)
    half = 1.96 * values.std() / np.sqrt(400)
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.02)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.02)
    assert interval.unit == "image" and interval.count == 400


def test_a_constant_difference_has_no_width():
    before = np.random.default_rng(0).normal(100, 20, size=50)
    interval = paired_bootstrap(before, before - 5, 0)
    assert (interval.value, interval.low, interval.high) == pytest.approx((-5, -5, -5))
    assert interval.excludes_zero


def test_pairing_removes_what_both_sides_share():
    rng = np.random.default_rng(0)
    before = rng.normal(100, 50, size=300)
    after = before - 2 + rng.normal(0, 1, size=300)
    interval = paired_bootstrap(before, after, 0)
    assert interval.high < 0 and interval.high - interval.low < 0.5


def test_relative_change_is_in_percent():
    before = np.array([50.0, 100.0, 150.0])
    interval = paired_bootstrap(before, before * 0.94, 0, relative=True)
    assert (interval.value, interval.low, interval.high) == pytest.approx((-6, -6, -6))


def test_groups_are_drawn_whole():
    """Ten images alike in each of 20 clips: the interval is that of 20 values, sqrt(10) times as wide."""
    means = np.random.default_rng(0).normal(0, 1, size=20)
    values, groups = np.repeat(means, 10), np.repeat(np.arange(20), 10)
    whole = bootstrap_mean(values, 0, groups, resamples=20_000)
    single = bootstrap_mean(values, 0, resamples=20_000)
    assert whole.unit == "group"
    assert (whole.high - whole.low) / (single.high - single.low) == pytest.approx(np.sqrt(10), rel=0.05)


def test_unequal_groups_keep_the_image_mean():
    values, groups = [0.0, 0, 0, 10], ["a", "a", "a", "b"]
    interval = bootstrap_mean(values, 0, groups)
    assert interval.value == pytest.approx(2.5)
    assert (interval.low, interval.high) == (0, 10)  # draws aa, ab, bb


def test_one_group_falls_back_to_images_and_says_so():
    interval = bootstrap_mean([1.0, 2, 3, 4], 0, ["a"] * 4)
    assert interval.unit == "image" and interval.low < 2.5 < interval.high


def test_missing_values_are_left_out_in_pairs():
    interval = paired_bootstrap([1.0, np.nan, 3], [2.0, 5, np.nan], 0, ["a", "b", "c"])
    assert interval.value == 1 and interval.count == 1
    assert np.isnan(bootstrap_mean([np.nan], 0).value)


def test_unequal_lengths_are_refused():
    with pytest.raises(DataError, match="cannot pair"):
        paired_bootstrap([1.0], [1.0, 2.0], 0)
    with pytest.raises(DataError, match="cannot pair"):
        bootstrap_mean([1.0, 2.0], 0, ["a"])
