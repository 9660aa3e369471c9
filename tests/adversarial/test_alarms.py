"""Alarms: of rows that are written by hand."""

from __future__ import annotations

from posegen.adversarial.alarms import BALANCE, DIVERSITY, PLAUSIBILITY, Alarms, alarms_of, loss_weights

LIMITS = {"limit_nearest_mm": 100.0, "limit_violation_rad": 0.1, "limit_diversity_mm": 200.0}


def measured(step: int, nearest: float = 80.0, violation: float = 0.0, diversity: float = 250.0) -> dict[str, float]:
    meter = {"meter_nearest_mm": nearest, "meter_violation_rad": violation, "meter_diversity_mm": diversity}
    return {"step": step, **meter, **LIMITS}


def test_an_alarm_begins_ends_and_is_told_once_each() -> None:
    watch = Alarms({})
    assert watch.see(measured(20)) == []
    (line,) = watch.see(measured(40, nearest=130.0))
    assert "step 40: alarm, plausibility" in line and "130 mm" in line and "100 mm" in line
    assert watch.see({"step": 41}) == []  # nothing was measured: it goes on
    assert watch.see(measured(60, nearest=140.0)) == []
    assert watch.see(measured(80)) == ["step 80: plausibility is well again"]
    (alarm,) = watch.found
    assert (alarm.name, alarm.begun, alarm.ended) == (PLAUSIBILITY, 40, 80)
    assert str(alarm).startswith("from step 40 until step 80: the nearest real pose is 130 mm")


def test_bent_joints_and_poses_that_are_alike() -> None:
    found = alarms_of([measured(20, violation=0.3, diversity=150.0)], {})
    assert {alarm.name for alarm in found} == {PLAUSIBILITY, DIVERSITY}
    assert all(alarm.ended is None and "to the end" in str(alarm) for alarm in found)


def test_one_loss_that_outweighs_the_rest_for_a_while() -> None:
    weights = {"feedback": 1.0, "adversarial": 0.5}
    rows = [{"step": step, "loss_feedback": -9.8, "loss_adversarial": 0.4} for step in range(1, 31)]
    (alarm,) = alarms_of(rows, weights)
    assert (alarm.name, alarm.begun) == (BALANCE, 20) and "feedback is 98 %" in alarm.told
    gated = [{**row, "feedback_gate": 0.1} for row in rows]
    assert alarms_of(gated, weights) == []  # 0.98 against 0.2
    assert alarms_of(rows[:19], weights) == []


def test_discriminators_that_no_longer_err() -> None:
    rows = [
        {"step": step, "loss_adversarial": 1.0, "loss_moments": 1.0, "loss_discriminator": 0.01} for step in range(30)
    ]
    (alarm,) = alarms_of(rows, {"adversarial": 0.5, "moments": 0.5})
    assert alarm.name == BALANCE and "discriminators" in alarm.told


def test_the_weights_are_those_of_the_configuration() -> None:
    config = {"adversarial": {"weight_adversarial": 0.5, "steps": 3}, "feedback": {"weight": 2.0}}
    assert loss_weights(config) == {"adversarial": 0.5, "feedback": 2.0}
