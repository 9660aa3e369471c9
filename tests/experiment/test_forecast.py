"""What an experiment is said to take before it begins, and the job that runs it over seeds and values."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from posegen.config import compose
from posegen.errors import ConfigError
from posegen.experiment.forecast import Costs, Work, seconds_of

TABLE = runpy.run_path(str(Path(__file__).parents[2] / "jobs" / "table.py"))
SIZES = ["dataset.images=100", "dataset.source_images=40", "finetune.steps=10", "adversarial.steps=6",
         "dataset.selection.factor=3", "evaluation.images=20"]  # fmt: skip


def work(arms: str, *more: str) -> Work:
    return Work.of(compose(["experiment=smoke", *SIZES, f"dataset.arms=[{arms}]", *more]))


def test_work_is_counted_arm_by_arm():
    plain = work("random")
    assert (plain.source_rows, plain.rows, plain.steps, plain.generator_steps) == (40, 100, 10, 0)
    assert plain.measured == 2 * 5 * 20  # before and after, four tests and one watched set
    assert work("random,mined_random").rows == 100 + 100 + 3 * 100  # candidates of the second
    assert work("random,posegen").generator_steps == 6
    assert work("no_feedback,posegen").generator_steps == 12


def test_candidates_and_arms_without_rows_need_a_target():
    with_target = work("weak_labels,selected_anchors", "target=embedded", "dataset.selection.factor=4")
    assert with_target.rows == 100 + 4 * 100  # weak labels render nothing
    assert with_target.steps == 20


def test_costs_are_tried_on_this_machine(assets):
    config = compose(["experiment=smoke", *SIZES, "dataset.arms=[random,posegen]"])
    costs = Costs.measured(config)
    assert all(value > 0 for value in vars(costs).values())
    assert Costs.measured(compose(["experiment=smoke", "dataset.arms=[random]"])).generator_step == 0


def test_seconds_are_work_times_costs():
    seconds = seconds_of(Work(1, 2, 3, 4, 5), replace(Costs(1.0, 1.0, 1.0, 1.0, 1.0), step=10.0))
    assert seconds == {"source rows": 1, "rendering": 2, "fine-tuning": 30, "generators": 4, "answers": 5}


def test_a_table_of_each_combination():
    assert TABLE["cells_of"](["a=1"], []) == [["a=1"]]
    assert TABLE["cells_of"](["a=1"], ["b=x,y", "c=u,v"]) == [
        ["a=1", "b=x", "c=u"], ["a=1", "b=x", "c=v"], ["a=1", "b=y", "c=u"], ["a=1", "b=y", "c=v"],
    ]  # fmt: skip
    for bad in ("b", "b=", "=x", "b=x,,y"):
        with pytest.raises(ConfigError, match="is not KEY=VALUE,VALUE"):
            TABLE["cells_of"]([], [bad])


@pytest.mark.parametrize(("text", "seeds"), [("0-4", [0, 1, 2, 3, 4]), ("3", [3]), ("0,3,7", [0, 3, 7])])
def test_seeds(text, seeds):
    assert TABLE["seeds_of"](text) == seeds


@pytest.mark.parametrize("text", ["", "4-0", "a", "1,1", "-1", "0-"])
def test_no_seeds(text):
    with pytest.raises(ConfigError, match="names no seeds"):
        TABLE["seeds_of"](text)


@pytest.mark.parametrize("name", ["paper_table", "ablation_noise", "ablation_target", "ablation_feedback"])
def test_shipped_tables_compose(name):
    assert compose([f"experiment={name}"]).experiment_name == name
