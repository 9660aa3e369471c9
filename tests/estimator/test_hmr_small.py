"""The embedded default: geometry of its head, gradients, modes, checkpoints."""

from __future__ import annotations

import pytest
import torch
from stick_body import stick_body
from torch import nn

from posegen.body.joint_sets import SMPL24
from posegen.body.skeleton import Skeleton
from posegen.errors import CheckpointError, ConfigError
from posegen.estimator import build, load_checkpoint, save_checkpoint
from posegen.estimator.config import EstimatorConfig
from posegen.estimator.hmr import IterativeRegressor
from posegen.estimator.hmr_small import conv_bn
from posegen.scene import Estimator


@pytest.fixture
def estimator():
    return build("hmr_small", pretrained=False, body=stick_body(), seed=1)


@pytest.fixture
def images():
    return torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def test_prediction_is_complete_and_consistent(estimator, images):
    prediction = estimator(images)
    assert isinstance(estimator, Estimator)
    assert (prediction.joint_set, prediction.joints.shape) == ("smpl24", (3, 24, 3))
    assert prediction.betas.shape == (3, 10)
    assert prediction.camera.shape == (3, 3)
    eye = torch.eye(3).expand(3, 24, 3, 3)
    assert torch.allclose(prediction.rotations @ prediction.rotations.transpose(-1, -2), eye, atol=1e-5)
    assert torch.allclose(torch.linalg.det(prediction.rotations), torch.ones(3, 24), atol=1e-5)
    assert torch.allclose(prediction.joints[:, 0], torch.zeros(3, 3))
    # the root's rotation turns the whole skeleton: undoing it gives the joints of a body in world orientation
    upright = estimator.skeleton(
        torch.cat([torch.eye(3).expand(3, 1, 3, 3), prediction.rotations[:, 1:]], 1), prediction.betas
    )
    assert torch.allclose((prediction.rotations[:, :1] @ upright[..., None])[..., 0], prediction.joints, atol=1e-5)


def test_the_iteration_starts_upright_before_the_camera():
    regressor = IterativeRegressor(8)
    nn.init.zeros_(regressor.update.weight)
    rotations, betas, camera = regressor(torch.randn(2, 8))
    assert torch.allclose(rotations[:, 0], torch.diag(torch.tensor([1.0, -1.0, -1.0])).expand(2, 3, 3))
    assert torch.allclose(rotations[:, 1:], torch.eye(3).expand(2, 23, 3, 3))
    assert torch.equal(betas, torch.zeros(2, 10))
    assert torch.allclose(camera, torch.tensor([0.9, 0.0, 0.0]).expand(2, 3))


def test_skeleton_is_linear_in_shape():
    body = stick_body()
    skeleton = Skeleton.of_body(body)
    betas = torch.randn(2, 10, generator=torch.Generator().manual_seed(3))
    rest = body.v_template + torch.einsum("jck,bk->bjc", body.shapedirs, betas)
    joints = skeleton(torch.eye(3).expand(2, 24, 3, 3), betas)
    assert torch.allclose(joints, SMPL24.centred(rest), atol=1e-6)


def test_size_and_speed_class(estimator):
    assert 0.8e6 < sum(p.numel() for p in estimator.parameters()) < 1.2e6
    assert estimator.image_size == 96


def test_gradient_to_the_image_matches_finite_differences(estimator, images):
    estimator = estimator.double().feedback_mode()
    nn.init.normal_(estimator.regressor.update.weight, std=0.05, generator=torch.Generator().manual_seed(2))
    weight = torch.randn(1, 24, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))

    def score(x):
        return (estimator(x).joints * weight).sum()

    x = images[:1].double().requires_grad_()
    (gradient,) = torch.autograd.grad(score(x), x)
    direction = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(6))
    step = 1e-6
    finite = (score(x + step * direction) - score(x - step * direction)) / (2 * step)
    assert gradient.abs().max() > 0
    assert (gradient * direction).sum().item() == pytest.approx(finite.item(), rel=1e-4)
    assert all(p.grad is None for p in estimator.parameters())


def test_frozen_batchnorm_keeps_statistics_but_learns(estimator, images):
    statistics = estimator.backbone.stem_bn.running_mean.clone()
    scale = estimator.backbone.stem_bn.weight.detach().clone()
    estimator.train_mode(frozen_batchnorm=True)
    estimator.train()  # a wrapper may call this again
    optimiser = torch.optim.SGD(estimator.parameters(), lr=0.1)
    estimator(images).joints.square().sum().backward()
    optimiser.step()
    assert torch.equal(estimator.backbone.stem_bn.running_mean, statistics)
    assert not torch.equal(estimator.backbone.stem_bn.weight, scale)
    estimator.train_mode(frozen_batchnorm=False)(images)
    assert not torch.equal(estimator.backbone.stem_bn.running_mean, statistics)


def test_a_convolution_with_its_batchnorm_is_one_where_the_statistics_stand_still():
    torch.manual_seed(0)
    conv, bn = nn.Conv2d(3, 5, 3, 2, 1, bias=False), nn.BatchNorm2d(5)
    nn.init.uniform_(bn.weight, 0.5, 2.0)
    nn.init.normal_(bn.bias)
    image = torch.rand(4, 3, 8, 8)
    conv_bn(image, conv, bn)
    assert bn.num_batches_tracked == 1  # in training it still learns its statistics
    bn.eval()
    apart, together = bn(conv(image)), conv_bn(image, conv, bn)
    assert torch.allclose(apart, together, atol=1e-6)
    learned = (conv.weight, bn.weight, bn.bias)
    for one, two in zip(*(torch.autograd.grad(y.square().sum(), learned) for y in (apart, together)), strict=True):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-4)


def test_a_step_changes_it_and_save_load_resume_agree(estimator, images, tmp_path):
    target = torch.randn(3, 24, 3, generator=torch.Generator().manual_seed(7)) * 0.2

    def step(model, optimiser):
        optimiser.zero_grad()
        loss = (model(images).joints - target).square().mean()
        loss.backward()
        optimiser.step()
        return loss.item()

    def optimiser_of(model):
        return torch.optim.Adam(model.train_mode().parameters(), lr=1e-3)

    before = estimator(images).joints.detach()
    optimiser = optimiser_of(estimator)
    first, _ = step(estimator, optimiser), step(estimator, optimiser)
    path = save_checkpoint(estimator, tmp_path / "e.pt")
    resumed = load_checkpoint("hmr_small", path)
    assert torch.equal(resumed(images).joints, estimator.eval()(images).joints)  # the skeleton travels with the weights
    assert not torch.allclose(before, resumed(images).joints)
    resumed_optimiser = optimiser_of(resumed)
    resumed_optimiser.load_state_dict(optimiser.state_dict())
    estimator.train_mode()
    assert step(resumed, resumed_optimiser) == step(estimator, optimiser)
    for _ in range(10):
        last = step(estimator, optimiser)
    assert last < first


def test_seed_fixes_the_random_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    a, b = (build("hmr_small", pretrained=False, body=stick_body(), seed=s) for s in (4, 4))
    assert torch.equal(torch.rand(2), expected)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_wrong_names_options_and_files_are_explained(tmp_path, estimator):
    with pytest.raises(ConfigError, match="did you mean 'hmr_small'"):
        build("hmr_smal")
    with pytest.raises(ConfigError, match="did you mean 'checkpoint'"):
        build("hmr_small", chekpoint="x")
    path = save_checkpoint(estimator, tmp_path / "e.pt")
    with pytest.raises(CheckpointError, match="of estimator 'hmr_small', not 'spin'"):
        load_checkpoint("spin", path)


def test_config_gives_the_arguments_that_are_set():
    assert EstimatorConfig().keywords() == {}
    config = EstimatorConfig("spin", "a.pt", "b.npz", options={"frozen": 1})
    assert config.keywords() == {"checkpoint": "a.pt", "mean_params": "b.npz", "frozen": 1}
