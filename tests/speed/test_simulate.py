"""The simulation against queues whose behaviour is known in closed form."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from simulate import (
    Figures,
    Layout,
    balanced,
    broadcast_s,
    load_figures,
    ring_allreduce_s,
    scaleout,
    simulate,
    table,
)

from posegen.errors import ConfigError

# one renderer, one trainer, nothing else that takes time
BARE = Figures(
    render_ms=10.0, train_ms=100.0, train_rows=10.0, row_mb=1.0, network_gbps=1e9, gradient_mb=0.0, weights_mb=0.0,
    hop_us=0.0, driver_ms=0.0, variation=0.0,
)  # fmt: skip
ONE = Layout(gpus=2, trainers=1, renderers_a_gpu=1, batch_rows=10, block_rows=10, store_mb=math.inf)


@pytest.mark.parametrize(("render_ms", "expected_rows_per_s"), [(20.0, 50.0), (10.0, 100.0), (5.0, 100.0)])
def test_throughput_of_one_and_one_is_that_of_the_slower(render_ms, expected_rows_per_s):
    outcome = simulate(dataclasses.replace(BARE, render_ms=render_ms), ONE)
    assert outcome.rows_per_s == pytest.approx(expected_rows_per_s, rel=1e-3)
    assert outcome.trainer_waiting == pytest.approx(max(0.0, 1 - 10 / render_ms), abs=1e-3)


def test_wait_in_the_buffer_is_pollaczek_khinchine():
    """Exponential block times into a constant service: M/D/1, mean wait rho / (2 mu (1 - rho))."""
    figures = dataclasses.replace(BARE, render_ms=100.0 / 7, variation=1.0)  # a block takes 1/7 s on average
    mu, rate = 10.0, 7.0
    rho = rate / mu
    outcome = simulate(figures, ONE, steps=60_000, seed=1, warmup=0.05)
    assert outcome.trainer_busy == pytest.approx(rho, rel=0.02)
    assert outcome.age_s == pytest.approx(rho / (2 * mu * (1 - rho)), rel=0.05)


def test_rows_in_the_buffer_obey_littles_law():
    figures = dataclasses.replace(BARE, variation=0.5)
    layout = dataclasses.replace(ONE, gpus=4, trainers=1, store_mb=200.0)
    outcome = simulate(figures, layout, steps=5000)
    assert outcome.store_mean * 200 == pytest.approx(outcome.rows_per_s * outcome.age_s, rel=0.01)


def test_a_bounded_buffer_holds_renderers_back_to_the_trainers_rate():
    figures = dataclasses.replace(BARE, render_ms=2.5)  # four times what the trainer takes
    outcome = simulate(figures, dataclasses.replace(ONE, store_mb=50.0), steps=2000)
    assert outcome.rows_per_s == pytest.approx(100.0, rel=1e-3)
    assert outcome.renderer_busy == pytest.approx(0.25, rel=0.01)
    assert outcome.renderer_blocked == pytest.approx(0.75, rel=0.01)
    assert outcome.bottleneck == "training"


def test_the_network_caps_rows():
    figures = dataclasses.replace(BARE, render_ms=1.0, network_gbps=0.4)  # 50 rows of 1 MB a second
    outcome = simulate(figures, dataclasses.replace(ONE, store_mb=100.0))
    assert outcome.rows_per_s == pytest.approx(50.0, rel=0.01)
    assert outcome.bottleneck == "network"


def test_the_driver_caps_blocks():
    figures = dataclasses.replace(BARE, render_ms=1.0, driver_ms=200.0)  # five blocks of ten rows a second
    outcome = simulate(figures, dataclasses.replace(ONE, gpus=5, store_mb=100.0))
    assert outcome.rows_per_s == pytest.approx(50.0, rel=0.01)
    assert outcome.bottleneck == "driver"


def test_ring_allreduce_by_hand():
    figures = dataclasses.replace(BARE, gradient_mb=100.0, network_gbps=10.0, nvlink_gbps=1000.0, hop_us=10.0)
    assert ring_allreduce_s(figures, dataclasses.replace(ONE, gpus=9, trainers=1)) == 0
    # within a node: 2 * 7/8 * 0.8 Gb / 1000 Gb/s + 14 hops
    eight = ring_allreduce_s(figures, dataclasses.replace(ONE, gpus=16, trainers=8))
    assert eight == pytest.approx(2 * 7 / 8 * 0.8 / 1000 + 14e-5)
    sixteen = ring_allreduce_s(figures, dataclasses.replace(ONE, gpus=24, trainers=16))
    assert sixteen == pytest.approx(2 * 15 / 16 * 0.8 / 10 + 30e-5)


def test_all_reduce_slows_the_step_by_its_own_time():
    figures = dataclasses.replace(BARE, render_ms=1.0, gradient_mb=100.0, network_gbps=16.0, row_mb=1e-6)
    layout = dataclasses.replace(ONE, gpus=32, trainers=16, store_mb=1000.0)
    outcome = simulate(figures, layout)
    reduce_s = 2 * 15 / 16 * 0.8 / 16
    assert outcome.steps_per_s == pytest.approx(1 / (0.1 + reduce_s), rel=1e-3)
    assert outcome.bottleneck == "all-reduce"


def test_broadcast_is_a_tree():
    figures = dataclasses.replace(BARE, weights_mb=10.0, network_gbps=8.0)
    assert broadcast_s(figures, dataclasses.replace(ONE, gpus=8)) == 0
    assert broadcast_s(figures, dataclasses.replace(ONE, gpus=64)) == pytest.approx(3 * 0.01)
    assert broadcast_s(figures, dataclasses.replace(ONE, gpus=72)) == pytest.approx(4 * 0.01)


def test_gpus_are_shared_by_the_two_rates():
    # a trainer takes 100 rows/s, a rendering GPU makes 4 * 100: one rendering GPU feeds four trainers
    layout = balanced(BARE, 10, renderers_a_gpu=4, batch_rows=10)
    assert (layout.trainers, layout.render_gpus) == (8, 2)
    assert balanced(BARE, 2, renderers_a_gpu=4, batch_rows=10).trainers == 1


def test_more_gpus_give_more_rows_until_something_gives():
    outcomes = scaleout(Figures())
    rates = [outcome.rows_per_s for outcome in outcomes]
    assert rates[1] > 1.6 * rates[0]
    assert all(outcome.rows_per_s <= rates[0] / 8 * outcome.layout.gpus * 1.05 for outcome in outcomes)
    assert len(table(outcomes).splitlines()) == 7
    for outcome in outcomes:
        total = outcome.trainer_busy + outcome.trainer_waiting + outcome.trainer_reducing
        assert total == pytest.approx(1.0, abs=0.02)


def test_same_seed_same_numbers():
    layout = balanced(Figures(), 16)
    assert simulate(Figures(), layout, seed=3) == simulate(Figures(), layout, seed=3)
    assert simulate(Figures(), layout, seed=3) != simulate(Figures(), layout, seed=4)


def test_measured_figures_are_told_from_assumed_ones(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text(json.dumps({"figures": {"render_ms": 3.5, "machine": "any"}}))
    figures = load_figures(path)
    assert (figures.render_ms, figures.measured) == (3.5, ("render_ms",))
    assert "train_ms" in figures.assumed
    assert "render_ms" not in figures.assumed
    path.write_text("{}")
    with pytest.raises(ConfigError, match="holds no figure"):
        load_figures(path)


def test_impossible_layouts_are_refused():
    with pytest.raises(ConfigError, match="one of each"):
        simulate(BARE, dataclasses.replace(ONE, trainers=2))
    with pytest.raises(ConfigError, match="does not hold one"):
        simulate(BARE, dataclasses.replace(ONE, store_mb=5.0))
