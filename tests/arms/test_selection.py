"""Selection against worked cases."""

import numpy as np
import pytest

from posegen.arms.config import SelectionConfig
from posegen.arms.selection import hardness, select
from posegen.errors import ConfigError, DataError


def test_half_of_the_rows_are_the_hardest_less_the_top_and_half_are_as_they_come():
    errors = np.array([5.0, 1, 2, 9, 10, 3, 8, 4, 7, 6])  # 10 candidates for 4 rows; the hardest (id 4) is dropped
    chosen = select(errors, 4, SelectionConfig(hard_share=0.5, drop_top=0.1))
    assert chosen.ids.tolist() == [0, 1, 3, 6]  # 9 and 8 are hard; 5 and 1 are the first of the others
    assert chosen.hard.tolist() == [False, False, True, True]
    assert chosen.figures(errors) == {
        "candidates_rendered": 10, "rendered_beyond_rows": 6, "chosen_hard": 2, "median_error_candidates": 5.5,
        "median_error_rows": 6.5,
    }  # fmt: skip


def test_a_row_that_is_hard_is_not_taken_twice():
    chosen = select(np.array([9.0, 8, 1, 2, 10, 3]), 4, SelectionConfig(hard_share=0.5, drop_top=0.1))
    assert chosen.ids.tolist() == [0, 1, 2, 3]
    assert chosen.hard.tolist() == [True, True, False, False]


def test_all_rows_may_be_hard():
    errors = np.arange(100.0)[::-1]  # row 0 is the hardest
    chosen = select(errors, 20, SelectionConfig(hard_share=1.0, drop_top=0.1))
    assert chosen.ids.tolist() == list(range(10, 30)) and chosen.hard.all()


def test_within_anchors_every_person_is_seen_at_his_own_hardest():
    # Person 0 is hard everywhere, person 1 easy: globally only person 0 would be chosen.
    errors = np.array([100.0, 110, 120, 130, 1, 2, 3, 4])
    anchors = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert hardness(errors, anchors).tolist() == [0.875, 0.625, 0.375, 0.125, 0.875, 0.625, 0.375, 0.125]
    settings = SelectionConfig(hard_share=1.0, drop_top=0.25, per_anchor=True)
    assert select(errors, 2, settings, anchors).ids.tolist() == [2, 6]
    everywhere = SelectionConfig(hard_share=1.0, drop_top=0.25)
    assert select(errors, 2, everywhere, anchors).ids.tolist() == [0, 1]
    with pytest.raises(ConfigError, match="per_anchor=false"):
        select(errors, 2, settings)


def test_order_of_candidates_does_not_matter():
    generator = np.random.default_rng(1)
    errors, anchors = generator.random(60), generator.integers(0, 7, 60)
    settings = SelectionConfig(hard_share=1.0, drop_top=0.2, per_anchor=True)
    shuffle = generator.permutation(60)
    first = set(select(errors, 20, settings, anchors).ids.tolist())
    second = set(shuffle[select(errors[shuffle], 20, settings, anchors[shuffle]).ids].tolist())
    assert first == second


def test_too_few_candidates_and_errors_that_are_none():
    with pytest.raises(DataError, match="too few for 9 rows"):
        select(np.arange(10.0), 9, SelectionConfig(hard_share=1.0, drop_top=0.5))
    with pytest.raises(DataError, match="1 candidates have no error"):
        select(np.array([1.0, np.nan, 2.0]), 1, SelectionConfig())
    assert not SelectionConfig(factor=1).chooses
    assert SelectionConfig().chooses
