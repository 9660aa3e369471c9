"""The adversarial loop: exact resume, feedback that moves the error, a gate that acts, baselines that stay put."""

import pytest
import torch
from small_world import SIZE, LinearEstimator, small_world

from posegen.adversarial.loop import AdversarialLoop
from posegen.adversarial.plausibility import FeedbackGate, Plausibility
from posegen.config import compose
from posegen.config.task import ArmTask
from posegen.errors import ConfigError

pytestmark = pytest.mark.usefixtures("assets")


def config(*overrides):
    small = ["adversarial.batch=16", "adversarial.feedback_batch=8", "adversarial.meter_samples=32"]
    return compose(["experiment=smoke", f"image_size={SIZE}", *small, *overrides])


def loop(*overrides, **kwargs):
    return AdversarialLoop(ArmTask(config(*overrides)), world=small_world(), estimator=LinearEstimator(), **kwargs)


def flat(module):
    return torch.cat([p.detach().flatten() for p in module.state_dict().values()])


def test_same_seed_same_weights_other_seed_other_weights():
    a, b, c = loop(), loop(), loop("seed=1")
    for each in (a, b, c):
        each.step()
        each.step()
    assert torch.equal(flat(a.generator), flat(b.generator))
    assert not torch.equal(flat(a.generator), flat(c.generator))


def test_a_resumed_loop_goes_on_exactly(tmp_path):
    whole = loop("adversarial.steps=6")
    for _ in range(3):
        whole.step()
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    rest = [whole.step() for _ in range(3)]
    resumed = loop("adversarial.steps=6")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert resumed.step_index == 3
    again = [resumed.step() for _ in range(3)]
    assert again == rest
    assert torch.equal(flat(resumed.generator), flat(whole.generator))
    assert torch.equal(flat(resumed.discriminators), flat(whole.discriminators))


@pytest.mark.parametrize("feedback", ["maximise", "score_function"])
def test_feedback_raises_the_error_of_the_samples(feedback):
    """The estimator's error on fixed draws grows when only the feedback trains the generator."""
    zero = [f"adversarial.weight_{name}=0" for name in ("adversarial", "projection", "moments", "residual", "limits")]
    more = ["adversarial.warmup_steps=0", "adversarial.steps=60", "adversarial.batch=64"]
    more += ["adversarial.feedback_batch=64"]
    gate = ["adversarial.limit_nearest_ratio=100", "adversarial.limit_violation_rad=100"]
    gate += ["adversarial.limit_diversity_ratio=0", "feedback.cap_mm=1000", "feedback.error=mpjpe"]
    trained = loop(f"feedback={feedback}", *zero, *more, *gate)
    draw = trained.drawer.draw(64, torch.Generator().manual_seed(7))

    def error():
        with torch.no_grad():
            return trained._judged(trained.generator(draw).scene)[1]

    start = error()
    for _ in range(60):
        trained.step()
    assert error().mean() > start.mean() + 0.3 * start.std()


def test_an_estimator_without_gradient_needs_the_score_function():
    blind = LinearEstimator()
    blind.differentiable = False
    with pytest.raises(ConfigError, match="score_function"):
        AdversarialLoop(ArmTask(config("feedback=band")), world=small_world(), estimator=blind)


def test_estimator_and_world_are_never_trained():
    trained = loop("adversarial.warmup_steps=0")
    before = flat(trained.estimator).clone()
    for _ in range(3):
        trained.step()
    assert torch.equal(flat(trained.estimator), before)
    assert all(p.grad is None for p in trained.estimator.parameters())


def test_the_gate_closes_when_a_limit_is_broken_and_opens_again():
    reference = Plausibility(nearest_mm=50.0, violation_rad=0.02, diversity_mm=200.0)
    gate = FeedbackGate(reference, nearest_ratio=1.5, violation_rad=0.1, diversity_ratio=0.7)
    assert gate.broken(reference) == []
    far = Plausibility(nearest_mm=80.0, violation_rad=0.02, diversity_mm=100.0)
    assert gate.broken(far) == ["nearest_mm", "diversity_mm"]
    assert [gate.update(far), gate.update(far), gate.update(reference)] == [0.5, 0.25, 0.3125]


def test_two_slices_make_the_global_batch():
    from posegen.parallel import Parallel

    rows = torch.arange(12)
    slices = [Parallel(rank, 3).slice(rows) for rank in range(3)]
    assert torch.equal(torch.stack(slices, 1).flatten(), rows)
    with pytest.raises(ConfigError, match="divide"):
        Parallel(0, 5).share(12, "adversarial.batch")


def test_bad_settings_are_refused_before_anything_runs():
    with pytest.raises(ConfigError, match="feedback_batch"):
        loop("adversarial.feedback_batch=32")
    with pytest.raises(ConfigError, match=r"pose_head: .magic"):
        loop("generator.pose_head=magic")
