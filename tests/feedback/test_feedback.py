"""The error and what is made of it, against worked values and finite differences."""

import pytest
import torch

from posegen.body.joint_sets import SMPL24
from posegen.errors import ConfigError
from posegen.feedback import FeedbackConfig, build, image_error_m
from posegen.feedback.errors3d import similarity_align
from posegen.scene import Prediction


def joints(seed=0, n=3):
    return torch.randn(n, 24, 3, generator=torch.Generator().manual_seed(seed)) * 0.4


def test_mpjpe_ignores_a_common_shift_and_counts_one_moved_joint():
    truth = joints()
    moved = truth + torch.tensor([1.0, -2.0, 0.5])
    moved[:, SMPL24.index("left_wrist"), 0] += 0.24
    error = image_error_m(Prediction(moved, "smpl24"), truth, "mpjpe")
    assert error == pytest.approx(torch.full((3,), 0.24 / 24), abs=1e-5)


def test_pa_mpjpe_is_zero_for_a_similarity_and_not_for_a_mirror_image():
    truth = joints().double()
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    rotation = rotation * torch.det(rotation).sign()
    similar = 1.7 * truth @ rotation.T + 3.0
    assert image_error_m(Prediction(similar, "smpl24"), truth, "pa_mpjpe").max() < 2e-6
    mirrored = truth * torch.tensor([-1.0, 1, 1])
    assert image_error_m(Prediction(mirrored, "smpl24"), truth, "pa_mpjpe").min() > 0.05


def test_gradient_of_the_aligned_error_is_exact():
    truth, guess = joints(2, 2).double(), joints(3, 2).double().requires_grad_()

    def error(points):
        return (similarity_align(points, truth) - truth).square().sum()

    (gradient,) = torch.autograd.grad(error(guess), guess)
    direction = torch.randn(guess.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    eps = 1e-5
    with torch.no_grad():
        numeric = (error(guess + eps * direction) - error(guess - eps * direction)) / (2 * eps)
    assert float((gradient * direction).sum()) == pytest.approx(float(numeric), rel=1e-5)


def test_unknown_error_names_the_choices():
    with pytest.raises(ConfigError, match="pa_mpjpe"):
        image_error_m(Prediction(joints(), "smpl24"), joints(), "pck")


def feedback(name, **options):
    return build(FeedbackConfig(name=name, **options))


def grad(loss, errors):
    (g,) = torch.autograd.grad(loss, errors)
    return g


def test_maximise_pushes_up_but_less_and_less_beyond_the_cap():
    f = feedback("maximise", cap_mm=200)
    errors = torch.tensor([0.05, 0.2, 1.0], requires_grad=True)
    g = grad(f.loss(errors, torch.zeros(3)), errors)
    assert (g < 0).all()
    assert g[0].abs() > 3 * g[2].abs()
    assert f.loss(errors, torch.zeros(3)).item() == pytest.approx(-torch.tanh(errors / 0.2).mean().item())


def test_band_pulls_from_both_sides_and_rests_inside():
    f = feedback("band", low_quantile=0.25, high_quantile=0.75)
    f.calibrate(torch.linspace(0.1, 0.5, 401))
    assert f.state == pytest.approx({"low_m": 0.2, "high_m": 0.4}, abs=1e-6)
    errors = torch.tensor([0.1, 0.3, 0.6], requires_grad=True)
    loss = f.loss(errors, torch.zeros(3))
    assert loss.item() == pytest.approx((0.1 + 0 + 0.2) / 3 / 0.2, rel=1e-5)
    assert grad(loss, errors).sign().tolist() == [-1, 0, 1]


def test_hard_ratio_has_its_minimum_at_the_target():
    f = feedback("hard_ratio", target_ratio=2.0)
    f.calibrate(torch.full((8,), 0.1))
    losses = [f.loss(torch.full((4,), 0.1 * r), torch.zeros(4)).item() for r in (1.0, 2.0, 3.0)]
    assert losses[1] == pytest.approx(0, abs=1e-6)
    assert min(losses[0], losses[2]) > 0.5


def test_score_function_raises_the_probability_of_hard_samples():
    """REINFORCE on a one-dimensional policy: the mean must move towards where the error is larger."""
    f = feedback("score_function", cap_mm=1000)
    mean = torch.zeros(1, requires_grad=True)
    noise = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    action = (mean + 0.3 * noise).detach()
    errors = 0.3 + 0.2 * action
    f.calibrate(errors)
    log_prob = -0.5 * ((action - mean) / 0.3).square()
    g = grad(f.loss(errors, log_prob), mean)
    # d/dmean of -E[tanh(error)], in units of its spread
    expected = -((1 - torch.tanh(errors) ** 2) * 0.2).mean() / torch.tanh(errors).std()
    assert g.item() == pytest.approx(expected.item(), rel=0.1)
    assert f.needs_gradient is False


def test_none_gives_no_gradient():
    errors = torch.tensor([0.1], requires_grad=True)
    assert grad(feedback("none").loss(errors, torch.zeros(1)), errors).item() == 0


@pytest.mark.parametrize("bad", [{"name": "bandd"}, {"cap_mm": 0}, {"low_quantile": 0.9, "high_quantile": 0.5}])
def test_impossible_settings_are_refused(bad):
    with pytest.raises(ConfigError):
        build(FeedbackConfig(**{"name": "band", **bad}))
