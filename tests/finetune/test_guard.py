"""The guard: blow-ups are seen, rolled back with smaller steps, told; the best weights are what is left."""

import copy

import pytest
import torch

from posegen.errors import TrainingError
from posegen.finetune.guard import Guard, GuardSettings, told_at_the_end


class Descent:
    """Gradient descent on a parabola of unit curvature: rates above 2 explode. The guard measures its value."""

    def __init__(self, rate, settings):
        self.x, self.rate = torch.tensor([1.0], dtype=torch.float64), rate
        self.guard = Guard(settings, lambda: {"x": self.x}, self.put_back, self.errors)
        self.step_index = 0

    def put_back(self, state):
        self.x = state["x"]

    def errors(self):
        return {"rows": 1 + self.x.square()}

    def step(self, steps):
        self.guard.begin(self.step_index)
        self.x -= self.rate * self.guard.scale * self.x  # in place: a guard that keeps no copy is found out
        self.step_index += 1
        return self.guard.check(self.step_index) if self.guard.due(self.step_index, steps) else {}

    def run(self, steps):
        return [self.step(steps) for _ in range(steps - self.step_index)]


def test_an_explosion_is_rolled_back_and_smaller_steps_reach_the_minimum():
    loop = Descent(7.5, GuardSettings(every=5, factor=1.3, back_off=0.5, tries=4))
    rows = loop.run(60)
    # 7.5 and 3.75 explode (|1 - rate| > 1), 1.875 does not
    assert loop.guard.blowups == 2
    assert rows[4] == {"held_rows": pytest.approx(1 + 6.5**10), "blowups": 1, "step_scale": 0.5, "kept_step": 0}
    assert rows[9]["held_rows"] == pytest.approx(1 + 2.75**10)  # it began at 1 again
    assert rows[0] == {}
    assert rows[-1]["held_rows"] == pytest.approx(1 + 0.875**100)
    assert rows[-1]["kept_step"] == 60
    assert len(loop.guard.events) == 2
    assert loop.guard.events[0].startswith("step 5: the error on held-out rows rows is")
    assert loop.guard.events[0].endswith("back to step 0, steps are 0.5 of what they were")


def test_the_best_is_kept_though_the_end_is_worse():
    loop = Descent(0.5, GuardSettings(every=1, factor=100))
    loop.run(4)
    best = loop.x.clone()
    loop.rate = -0.2  # now it climbs, too slowly for a blow-up
    loop.run(8)
    assert loop.guard.blowups == 0 and loop.guard.kept["step"] == 4 and loop.x > best
    loop.guard.go_to_kept()
    assert torch.equal(loop.x, best)


def test_it_gives_up_with_an_error_and_the_last_good_weights():
    loop = Descent(1e6, GuardSettings(every=1, tries=3))
    with pytest.raises(TrainingError, match="blew up 4 times") as caught:
        loop.run(30)
    assert loop.x.item() == 1.0
    assert "the last good weights are kept, those of step 0 (rows 2)" in caught.value.what
    assert caught.value.where == "step 4" and "finetune.learning_rate" in caught.value.next_command


def test_no_number_is_a_blow_up_too():
    guard = Descent(1.0, GuardSettings()).guard
    assert guard.sound(1.0, 0.0)
    assert not guard.sound(1.0, float("nan")) and not guard.sound(float("inf"))
    loop = Descent(0.1, GuardSettings(every=1))
    loop.run(2)
    loop.x.fill_(float("nan"))
    loop.step(10)
    assert loop.guard.blowups == 1 and loop.x.item() == pytest.approx(0.81)


def test_without_measurements_a_bad_step_is_left_out_and_told():
    guard = Descent(1.0, GuardSettings(every=0, tries=1)).guard
    guard.begin(0)
    assert not guard.kept and not guard.due(5, 5)
    guard.blown_up(3, "the loss is nan")
    assert guard.scale == 0.5
    assert guard.events == ["step 3: the loss is nan; the step is left out, steps are 0.5 of what they were"]
    with pytest.raises(TrainingError, match="blew up 2 times"):
        guard.blown_up(4, "the loss is nan")


def test_a_guard_with_nothing_to_measure_says_so():
    guard = Guard(GuardSettings(every=2), dict, lambda state: None, dict)
    with pytest.raises(TrainingError, match="no rows held out"):
        guard.begin(0)


def guarded(errors, **settings):
    """A guard over rows of some kinds whose errors the test sets."""
    guard = Guard(
        GuardSettings(every=1, **settings), dict, lambda state: None,
        lambda: {kind: torch.as_tensor(rows, dtype=torch.float64) for kind, rows in errors.items()},
    )  # fmt: skip
    guard.begin(0)
    return guard


def test_the_score_weighs_kinds_by_their_start_and_each_kind_can_blow_up():
    errors = {"generated": [200.0], "source": [50.0]}
    guard = guarded(errors, factor=1.3)
    errors.update(generated=[180.0], source=[60.0])  # -10 % and +20 %
    guard.check(1)
    assert guard.kept["step"] == 0
    (told,) = told_at_the_end(guard.state_dict())
    assert "held-out rows were worse than at the start (generated 200, source 50 mm)" in told
    errors.update(generated=[150.0], source=[60.0])  # -25 % and +20 %
    guard.check(2)
    assert guard.kept["step"] == 2 and guard.kept["errors"] == {"generated": 150, "source": 60}
    assert told_at_the_end(guard.state_dict()) == []
    errors.update(generated=[140.0], source=[66.0])  # 1.32 times the lowest of the source
    guard.check(3)
    assert guard.blowups == 1 and "held-out source rows is 66, its lowest was 50" in guard.events[0]


def test_the_latest_is_kept_unless_it_is_clearly_worse_than_the_best():
    errors = {"rows": [100.0] * 9}
    guard = guarded(errors, factor=2.0)
    errors["rows"] = [80.0] * 9
    guard.check(1)
    errors["rows"] = [79.0] * 8 + [130.0]  # one whose sides are swapped: the mean is 5 % worse, by chance
    guard.check(2)
    assert guard.kept["step"] == 2 and guard.best["rows"].tolist() == [80.0] * 9
    errors["rows"] = [84.0, 85.0, 86.0] * 3  # 5 worse with a standard error of 0.3
    guard.check(3)
    assert guard.kept["step"] == 2
    errors["rows"] = [78.0] * 8 + [95.0]  # 0.1 better than the best
    guard.check(4)
    assert guard.kept["step"] == 4 and guard.best["rows"].tolist() == errors["rows"]


def test_many_small_rises_do_not_add_up():
    errors = {"rows": 100 * torch.ones(16, dtype=torch.float64)}
    guard = guarded(errors, factor=2.0)
    first = errors["rows"]
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 40):  # half a unit each, with a standard error of one
        errors["rows"] = errors["rows"] + 0.5 + 4 * torch.randn(16, generator=generator, dtype=torch.float64)
        guard.check(step)
    assert guard.kept["step"] < 30 and guard.best["rows"].mean() > first.mean() - 3


def test_a_few_rows_alone_are_no_explosion():
    errors = {"rows": [50.0] * 9}
    guard = guarded(errors, factor=1.3)
    errors["rows"] = [49.0] * 8 + [260.0]  # 1.45 times in the mean
    guard.check(1)
    assert guard.blowups == 0
    errors["rows"] = [70.0 + i for i in range(9)]
    guard.check(2)
    assert guard.blowups == 1
    errors["rows"] = [49.0] * 8 + [float("nan")]
    guard.check(3)
    assert guard.blowups == 2


@pytest.mark.parametrize("at", [3, 7, 12])
def test_killed_and_resumed_it_goes_on_with_the_same_numbers(at, tmp_path):
    settings = GuardSettings(every=5)
    whole = Descent(7.5, settings)
    rows = whole.run(40)
    first = Descent(7.5, settings)
    for _ in range(at):
        first.step(40)
    torch.save({"x": first.x, "guard": first.guard.state_dict()}, tmp_path / "s.pt")
    state = torch.load(tmp_path / "s.pt", weights_only=True)
    resumed = Descent(7.5, settings)
    resumed.x, resumed.step_index = state["x"], at
    resumed.guard.load_state_dict(copy.deepcopy(state["guard"]))
    assert resumed.run(40) == rows[at:]
    assert torch.equal(resumed.x, whole.x)
    assert resumed.guard.events == whole.guard.events
