"""Data sets that are kept in memory give what the sets themselves give, are read once, and stay within their memory."""

import pytest
import torch

from posegen.benchmarks.measure.evaluate import evaluate
from posegen.benchmarks.suites import Suite, build_entry
from posegen.config import compose
from posegen.estimator import build
from posegen.experiment.kept_sets import KeptSets

pytestmark = pytest.mark.usefixtures("assets")


@pytest.fixture(scope="module")
def config():
    return compose(["evaluation.images=12", "evaluation.suite=[ski-like]", "image_size=64"])


def test_the_second_pass_is_the_first_without_reading(config, monkeypatch):
    (entry,) = Suite.of(config).measured
    sets = KeptSets(config)
    kept, plain = sets(entry), build_entry(entry, config)
    passes = []
    inner = kept._benchmark.batches
    monkeypatch.setattr(kept._benchmark, "batches", lambda size: passes.append(size) or inner(size))
    for _ in range(2):
        for ours, theirs in zip(kept.batches(5), plain.batches(5), strict=True):
            assert ours.ids == theirs.ids
            assert torch.equal(ours.images, theirs.images) and torch.equal(ours.vertices, theirs.vertices)
    assert passes == [5] and sets(entry) is kept and len(kept) == 12
    list(kept.batches(4))  # of another size: batches are cut anew
    assert passes == [5, 4]


def test_results_are_the_same_to_the_last_digit(config):
    (entry,) = Suite.of(config).measured
    kept, estimator = KeptSets(config)(entry), build("hmr_small")
    plain = evaluate(estimator, build_entry(entry, config), None, 5)
    for _ in range(2):
        found = evaluate(estimator, kept, None, 5)
        assert found.metrics == plain.metrics and found.protocol == plain.protocol and found.ids == plain.ids


def test_a_set_without_room_is_read_each_time(config):
    (entry,) = Suite.of(config).measured
    sets = KeptSets(config, room_mb=0.1)
    kept = sets(entry)
    first, second = list(kept.batches(5)), list(kept.batches(5))
    assert sets.taken_mb == 0 and first[0] is not second[0]
    assert torch.equal(first[0].images, second[0].images)
