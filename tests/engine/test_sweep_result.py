"""What a sweep found: with several seeds the best setting is the one with the best mean."""

import pytest

from posegen.engine.sweep_result import SweepResult, Trial

METRIC = "gain"


def trial(name, seed, noise, value, state="finished"):
    return Trial(name, state, {"seed": seed, "noise": noise}, value, 1, error="bad luck" if state == "failed" else None)


def result(*trials, mode="max"):
    ordered = sorted(trials, key=lambda t: -(t.value or 0.0))
    return SweepResult("toy", METRIC, mode, "somewhere", tuple(ordered))


def test_the_luckiest_seed_does_not_win():
    found = result(
        trial("a", 1, "gaussian", 9.0), trial("b", 2, "gaussian", 1.0), trial("c", 1, "uniform", 6.0),
        trial("d", 2, "uniform", 5.0),
    )  # fmt: skip
    assert found.best.parameters == {"noise": "uniform"} and found.best.value == pytest.approx(5.5)
    assert found.best.id == "c, d"
    means = found.pooled()
    assert [t.value for t in means] == pytest.approx([5.5, 5.0])
    assert [t.metrics["sd"] for t in means] == pytest.approx([0.5**0.5, 32**0.5])
    lines = found.table().splitlines()
    assert lines[2].split() == ["1", "9", "1", "gaussian", "finished"]
    assert lines[-2].split() == ["1", "5.5", "uniform", "sd", "0.71,", "2", "seeds"]


def test_a_setting_that_lacks_a_seed_is_shown_but_not_chosen():
    found = result(
        trial("a", 1, "gaussian", 9.0), trial("b", 2, "gaussian", None, "failed"), trial("c", 1, "uniform", 6.0),
        trial("d", 2, "uniform", 5.0), trial("e", 1, "sphere", None, "failed"), trial("f", 2, "sphere", None, "failed"),
    )  # fmt: skip
    assert found.best.parameters == {"noise": "uniform"}
    assert [t.state for t in found.pooled()] == ["stopped", "finished", "failed"]
    assert "1 seed\n" in found.table() and found.table().endswith("trial f failed: bad luck")


def test_smaller_is_better_where_it_is():
    found = result(
        trial("a", 1, "gaussian", 9.0), trial("b", 2, "gaussian", 1.0), trial("c", 1, "uniform", 6.0),
        trial("d", 2, "uniform", 5.0), mode="min",
    )  # fmt: skip
    assert found.best.parameters == {"noise": "gaussian"}


def test_without_several_seeds_nothing_is_pooled():
    one = result(trial("a", 1, "gaussian", 9.0), trial("c", 1, "uniform", 6.0))
    assert one.pooled() == () and one.best.id == "a" and "mean over seeds" not in one.table()
    none = SweepResult("toy", METRIC, "max", "x", (Trial("a", "finished", {"noise": "gaussian"}, 1.0, 1),) * 2)
    assert none.pooled() == () and none.best.parameters == {"noise": "gaussian"}
