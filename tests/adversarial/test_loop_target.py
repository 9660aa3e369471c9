"""The adversarial loop with a target: whom it draws around, what it sees as real, signals, exact resume."""

import math

import pytest
import torch
from small_world import SIZE, LinearEstimator, small_world

from posegen.adversarial.loop import AdversarialLoop
from posegen.adversarial.target import GeneratorTarget
from posegen.body.joint_sets import LIMBS12, SMPL24
from posegen.config import ArmTask, compose
from posegen.errors import ConfigError
from posegen.target.anchors import Anchors
from posegen.target.config import TargetConfig

pytestmark = pytest.mark.usefixtures("assets")


def target(share=0.8):
    generator = torch.Generator().manual_seed(0)
    pose = 0.2 * torch.randn(6, 24, 3, generator=generator)
    pose[:, 0] = torch.tensor([math.pi, 0.0, 0.0])
    zero = torch.zeros(6)
    anchors = Anchors(
        pose, torch.full((6,), 1 / 6), torch.arange(6), zero + 0.5, zero, zero + 4.0, zero + 0.1, zero + 0.1
    )  # fmt: skip
    keypoints = torch.cat([torch.rand(6, 12, 2, generator=generator) * 90, torch.ones(6, 12, 1)], 2)
    return GeneratorTarget(anchors, keypoints, LIMBS12.name, TargetConfig(scene_share=share))


def loop(*overrides, estimator=None, **kwargs):
    small = ["adversarial.batch=16", "adversarial.feedback_batch=8", "adversarial.meter_samples=32"]
    config = compose(["experiment=smoke", f"image_size={SIZE}", *small, "adversarial.warmup_steps=0", *overrides])
    kwargs.setdefault("target", target())
    return AdversarialLoop(ArmTask(config), world=small_world(), estimator=estimator or LinearEstimator(), **kwargs)


def test_generators_draw_around_the_target_and_discriminators_see_its_keypoints():
    built = loop()
    draw = built.drawer.draw(200, torch.Generator().manual_seed(0))
    assert (draw.person >= 0).float().mean().item() == pytest.approx(0.8, abs=0.08)
    joints = built.discriminators.projection.joints
    assert {SMPL24.joints[joint] for joint in joints} == set(LIMBS12.joints)
    first = built.step()
    assert first["loss_discriminator"] > 0 and first["error_mm"] > 0
    assert built.meter.pool.shape[0] == 2 * (len(built.reals.pool) // 2 + 6)


def test_a_band_is_that_of_target_like_candidates():
    """The estimator is told to fail on the pool alone: the band must not know."""

    def band(share):
        built = loop("feedback=band", "adversarial.calibration_images=48", target=target(share))
        asked = []
        draw = built.drawer.draw
        built.drawer.draw = lambda n, random, share=None: (asked.append(share), draw(n, random, share))[1]
        built._calibrate()
        return asked, built.feedback.state

    asked, state = band(0.0)
    assert asked == [None, 1.0] and state["high_m"] > state["low_m"] > 0
    plain = loop("feedback=band", "adversarial.calibration_images=48", target=target(0.0))
    plain.target = None
    plain._calibrate()
    assert plain.feedback.state != state


@pytest.mark.parametrize("signal", ["error", "regret", "progress"])
def test_a_loop_with_a_target_resumes_exactly(tmp_path, signal):
    def build():
        return loop(
            "adversarial.steps=4", "feedback=band", f"feedback.signal={signal}", "feedback.probe_steps=2",
            teachers=(LinearEstimator(3),), earlier=LinearEstimator(4),
        )  # fmt: skip

    whole = build()
    whole.step()
    whole.step()
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    rest = [whole.step(), whole.step()]
    resumed = build()
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [resumed.step(), resumed.step()] == rest


def test_black_boxes_learn_by_regret_too():
    blind = LinearEstimator()
    blind.differentiable = False
    teachers = (LinearEstimator(3),)
    with pytest.raises(ConfigError, match="score_function"):
        loop("feedback=maximise", "feedback.signal=regret", estimator=blind, teachers=teachers)
    told = loop("feedback=score_function", "feedback.signal=regret", estimator=blind, teachers=teachers).step()
    assert told["loss_feedback"] != 0
    with pytest.raises(ConfigError, match="needs pictures of the target"):
        loop("feedback=agreement")
