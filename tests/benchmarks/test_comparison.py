"""Arms side by side, against worked values."""

import numpy as np
import pytest

from posegen.benchmarks.measure.comparison import average_change, compare_arms
from posegen.benchmarks.measure.result import BenchmarkResult


def result(name, errors, groups=None):
    errors = np.asarray(errors, float)
    n = len(errors)
    return BenchmarkResult(
        benchmark=name,
        protocol="p",
        ids=[f"{i}" for i in range(n)],
        groups=groups or [f"g{i // 2}" for i in range(n)],
        per_image={"mpjpe_mm": errors, "pck_150": 100 - errors / 10},
        azimuth=np.zeros(n),
        elevation=np.zeros(n),
        metrics={"mpjpe_mm": float(errors.mean())},
        counted={"used": n, "missing": 0, "damaged": 0, "failed": 0},
    )


def arms(before, after):
    return {"before": {k: result(k, v) for k, v in before.items()}, "x": {k: result(k, v) for k, v in after.items()}}


def test_a_constant_gain_has_an_interval_of_no_width():
    rng = np.random.default_rng(0)
    errors = rng.uniform(80, 200, 40)
    summary = compare_arms(arms({"a": errors}, {"a": errors - 12}), seed=0, resamples=300)
    change = summary["benchmarks"]["a"]["difference"]["x"]["mpjpe_mm"]
    assert change == {"value": -12.0, "low": -12.0, "high": -12.0}
    alone = summary["benchmarks"]["a"]["arms"]["x"]["mpjpe_mm"]
    assert alone["value"] == pytest.approx(errors.mean() - 12, abs=1e-3)
    assert alone["low"] < alone["value"] < alone["high"]
    assert "before" not in summary["average"]


def test_average_is_the_mean_of_relative_changes():
    before = {"a": np.full(10, 100.0), "b": np.full(10, 200.0)}
    after = {"a": np.full(10, 90.0), "b": np.full(10, 220.0)}
    both = arms(before, after)
    change = average_change(both["before"], both["x"], seed=0, resamples=100)
    assert change["value"] == pytest.approx((-0.10 + 0.10) / 2)
    assert change["low"] == pytest.approx(change["high"])


def test_noise_around_zero_includes_zero_and_is_repeatable():
    rng = np.random.default_rng(1)
    before = rng.uniform(80, 200, 60)
    both = arms({"a": before}, {"a": before + rng.normal(0, 20, 60)})
    first = average_change(both["before"], both["x"], seed=0, resamples=500)
    assert first["low"] < 0 < first["high"]
    assert first == average_change(both["before"], both["x"], seed=0, resamples=500)
