"""Losses that are no numbers or explode: seen in the step, no weight harmed, smaller steps, an error that says so."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from small_world import LinearEstimator, small_world
from test_loop import config, flat

from posegen.adversarial.loop import AdversarialLoop
from posegen.adversarial.stability import BACK_OFF, TRIES, USUAL_STEPS, Stability, UnsoundError
from posegen.config.task import ArmTask
from posegen.errors import TrainingError


class Sick(LinearEstimator):
    """Its answers are no numbers while `sick`."""

    sick = False

    def forward(self, images):
        prediction = super().forward(images)
        return type(prediction)(prediction.joints * (math.nan if self.sick else 1.0), prediction.joint_set)


def loop(estimator=None, *overrides):
    more = ["adversarial.warmup_steps=0", "adversarial.steps=40", "feedback=band", *overrides]
    return AdversarialLoop(ArmTask(config(*more)), world=small_world(), estimator=estimator or LinearEstimator())


@pytest.mark.usefixtures("assets")
def test_a_step_with_nan_moves_no_weight_of_the_generator_and_training_goes_on(caplog):
    estimator = Sick()
    training = loop(estimator)
    training.step()
    before = flat(training.generator).clone()
    estimator.sick = True
    with caplog.at_level(logging.WARNING):
        told = training.step()
    assert torch.equal(flat(training.generator), before) and training.step_index == 2
    assert told["blowups"] == 1 and told["step_scale"] == BACK_OFF
    assert "step 2: the estimator's error is nan; the step is left out" in caplog.text
    estimator.sick = False
    after = training.step()
    assert math.isfinite(after["loss"]) and not torch.equal(flat(training.generator), before)
    rate = config().adversarial.learning_rate
    assert training.optimisers["generator"].param_groups[0]["lr"] == pytest.approx(BACK_OFF * rate)


@pytest.mark.usefixtures("assets")
def test_what_never_mends_ends_in_an_error_with_sound_weights():
    estimator = Sick()
    training = loop(estimator)
    for _ in range(3):
        training.step()
    estimator.sick = True
    for _ in range(TRIES):
        training.step()
    with pytest.raises(TrainingError, match=r"blew up 5 times(.|\n)*the estimator's error is nan") as told:
        training.step()
    assert told.value.where == "step 8" and "adversarial.learning_rate" in str(told.value.next_command)
    state = training.state_dict()
    assert torch.isfinite(flat(training.generator)).all() and torch.isfinite(flat(training.discriminators)).all()
    assert torch.isfinite(state["replay"]).all()


@pytest.mark.usefixtures("assets")
def test_an_estimator_that_is_sick_from_the_start_is_named():
    estimator = Sick()
    estimator.sick = True
    with pytest.raises(TrainingError, match=r"no number on \d+ of \d+ proposals"):
        loop(estimator).step()


@pytest.mark.usefixtures("assets")
def test_poses_that_are_no_numbers_never_reach_the_pool_of_past_fakes():
    training = loop()
    training.step()
    with torch.no_grad():
        next(training.generator.parameters()).fill_(math.nan)
    assert training.step()["blowups"] == 1
    assert torch.isfinite(training.replay.items).all()
    training.step()  # the second time everything goes back to the snapshot
    assert torch.isfinite(flat(training.generator)).all()
    assert math.isfinite(training.step()["loss"])


def stability(state):
    def restore(kept):
        state.update(kept)

    return Stability(lambda: dict(state), restore, "the training", "smaller steps")


def test_an_explosion_goes_back_to_the_last_snapshot():
    state = {"w": torch.zeros(2)}
    watch = stability(state)
    watch.keep(0)
    for step in range(1, USUAL_STEPS + 6):
        state["w"] = torch.full((2,), float(step))
        watch.check_loss(1.0)
        watch.passed(step)
    watch.check_loss(90.0)
    with pytest.raises(UnsoundError, match="the loss is 101, usually 1") as told:
        watch.check_loss(101.0)
    watch.blown_up(26, told.value)
    assert state["w"].tolist() == [20, 20] and watch.kept_step == 20 and watch.metrics()["step_scale"] == 0.5
    with pytest.raises(UnsoundError, match="the loss is inf"):
        watch.check_loss(math.inf)
    early = stability({})
    early.check_loss(1.0)
    early.passed(1)
    early.check_loss(1e6)  # too early to know what is usual


@pytest.mark.usefixtures("assets")
def test_a_resumed_training_remembers(tmp_path):
    estimator = Sick()
    whole = loop(estimator)
    whole.step()
    estimator.sick = True
    whole.step()
    estimator.sick = False
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    rest = [whole.step() for _ in range(2)]
    resumed = loop(Sick())
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert resumed.stability.metrics() == {"blowups": 1.0, "step_scale": BACK_OFF}
    assert [resumed.step() for _ in range(2)] == rest
    old = whole.state_dict()
    del old["stability"]  # checkpoints of before there was a guard
    loop(Sick()).load_state_dict(old)
