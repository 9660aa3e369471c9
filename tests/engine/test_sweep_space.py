"""The YAML of a sweep: what it means, and what is refused before anything starts."""

from __future__ import annotations

import pytest

from posegen.config import compose, conf_dir
from posegen.engine.sweep_command import check_metric, check_space, split
from posegen.engine.sweep_limit import concurrency
from posegen.engine.sweep_space import SweepConfig, check, grid_values, load, size
from posegen.errors import ConfigError, EngineError

WEIGHT = {"dist": "loguniform", "lower": 0.01, "upper": 1.0}


def test_grids_hold_their_bounds():
    assert grid_values(WEIGHT, 3) == pytest.approx([0.01, 0.1, 1.0])
    assert grid_values({"dist": "uniform", "lower": 0, "upper": 1}, 5) == [0, 0.25, 0.5, 0.75, 1]
    assert grid_values({"dist": "int", "lower": 1, "upper": 3}, 10) == [1, 2, 3]
    assert grid_values({"dist": "choice", "values": ["b", "a"]}, 1) == ["b", "a"]
    config = SweepConfig(space={"a": WEIGHT, "b": {"dist": "choice", "values": [1, 2]}}, search="grid", grid_points=4)
    assert size(config) == 8
    assert size(SweepConfig(space={"a": WEIGHT}, search="random", trials=5)) == 5


def test_ranges_are_sampled_within_their_bounds():
    from posegen.engine.sweep_space import tune_space

    space = {"w": WEIGHT, "k": {"dist": "int", "lower": 1, "upper": 2}, "n": {"dist": "choice", "values": ["x"]}}
    domains = tune_space(SweepConfig(space=space, search="random"))
    assert {domains["k"].sample() for _ in range(50)} == {1, 2}
    samples = [domains["w"].sample() for _ in range(200)]
    assert 0.01 <= min(samples) < 0.03
    assert 0.3 < max(samples) <= 1.0
    assert sum(sample < 0.1 for sample in samples) == pytest.approx(100, abs=35)  # half, in the logarithm
    assert domains["n"].sample() == "x"


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ({"dist": "loguniform", "lower": 0, "upper": 1}, "above 0"),
        ({"dist": "uniform", "lower": 2, "upper": 1}, "lower < upper"),
        ({"dist": "uniform", "lower": 2}, "is without upper"),
        ({"dist": "uniform", "lower": 2, "upper": 3, "step": 1}, "has an unknown step"),
        ({"dist": "int", "lower": 0.5, "upper": 3}, "whole numbers"),
        ({"dist": "choice", "values": []}, "at least one value"),
        ({"dist": "normal"}, "needs a `dist`"),
        ([1, 2], "needs a `dist`"),
    ],
)
def test_a_wrong_parameter_is_refused(parameter, message):
    with pytest.raises(ConfigError, match=message):
        check(SweepConfig(space={"w": parameter}))


@pytest.mark.parametrize("name", [path.stem for path in (conf_dir() / "sweep").glob("*.yaml")])
def test_the_sweeps_that_are_shipped_fit_the_configuration(name):
    config = load(name, conf_dir())
    composed = check_space(config, config.overrides)
    assert composed.dataset.arms == ("posegen",)


def test_a_misspelt_key_of_the_space_is_said_before_the_cluster_is_asked():
    config = load("small", conf_dir())
    config.space["adversarial.weight_adversarail"] = WEIGHT
    with pytest.raises(ConfigError, match="weight_adversarail"):
        check_space(config, config.overrides)


def test_the_metric_is_one_that_trials_report():
    composed = compose(["experiment=smoke", "evaluation.suite=[ski-like,{name:ski-like,label:other,seed:3}]"])
    for metric in ("mean_relative_improvement", "mpjpe_mm/ski-like", "mpjpe_mm/other"):
        check_metric(SweepConfig(metric=metric), composed)
    with pytest.raises(ConfigError, match="no trial reports 'mpjpe_mm/agora-like'") as refused:
        check_metric(SweepConfig(metric="mpjpe_mm/agora-like"), composed)
    assert "mpjpe_mm/other" in refused.value.choices


def test_the_command_line_tells_the_sweeps_settings_from_the_trials():
    words = ["sweep=noise_and_losses", "sweep.trials=5", "sweep.trial_resources={CPU: 3}", "experiment=smoke", "seed=2"]
    name, changes, overrides = split(words)
    assert (name, overrides) == ("noise_and_losses", ["experiment=smoke", "seed=2"])
    config = load(name, conf_dir(), changes)
    assert (config.trials, config.trial_resources) == (5, {"CPU": 3.0})
    with pytest.raises(ConfigError, match="did you mean 'small'"):
        load("smal", conf_dir())
    with pytest.raises(ConfigError, match=r"(?s)unknown key 'trails'.*small.yaml sweep.trails=3"):
        load("small", conf_dir(), {"trails": 3})


def test_trials_at_once_from_resources():
    config = SweepConfig(space={"w": WEIGHT}, search="random", trials=100, trial_resources={"CPU": 2, "GPU": 0.5})
    assert concurrency(config, {"CPU": 16, "GPU": 2}) == 4
    assert concurrency(config, {"CPU": 5, "GPU": 2}) == 2
    config.max_concurrent = 3
    assert concurrency(config, {"CPU": 16, "GPU": 2}) == 3
    with pytest.raises(EngineError, match=r"asks for 2 CPU, 0\.5 GPU, the cluster has 16 CPU, 0 GPU"):
        concurrency(config, {"CPU": 16})
    config.growing_cluster = True
    assert concurrency(config, {}) == 3
    config.trials = 2
    config.growing_cluster = False
    assert concurrency(config, {"CPU": 16, "GPU": 2}) == 2
