"""Each estimator on a GPU, pretended or real: forward, backward, save and load, and its evaluation."""

import pytest
import torch
from seeded_weights import seeded_images

from posegen.benchmarks import protocol
from posegen.benchmarks.measure.evaluate import evaluate
from posegen.estimator import build, save_checkpoint
from rounding import allowed

pytestmark = pytest.mark.usefixtures("assets")

NAMES = ("hmr_small", "hmr_lite", "spin", "hybrik", "blazepose", "efficientnet")


@pytest.mark.parametrize("name", NAMES)
def test_forward_backward_save(cuda, name, tmp_path):
    torch.manual_seed(0)
    estimator = build(name)
    images = seeded_images(2, 96)
    with torch.no_grad():
        on_cpu = estimator(images).joints
        limit = 1e-4
        if cuda is None:  # a card adds in another order, which an inverse kinematics makes much of
            exact = build(name)
            exact.load_state_dict(estimator.state_dict())
            limit = allowed(on_cpu, exact.double()(images.double()).joints)
    estimator.to("cuda")
    with pytest.raises(RuntimeError):  # DeviceMismatch is one
        estimator(images)
    image = images.to("cuda").requires_grad_()
    on_cuda = estimator(image)
    assert (on_cpu - on_cuda.joints.detach().cpu()).abs().max() < limit
    (gradient,) = torch.autograd.grad(on_cuda.joints.square().sum(), image)
    assert gradient.is_cuda and gradient.abs().max() > 0
    estimator.train_mode(frozen_batchnorm=True)
    estimator(image.detach()).joints.square().sum().backward()
    torch.optim.AdamW([p for p in estimator.parameters() if p.requires_grad], lr=1e-5).step()
    assert all(p.is_cuda for p in estimator.parameters())
    file = save_checkpoint(estimator, tmp_path / "tuned.pt")
    again = build(name).load(file)
    assert not next(again.parameters()).is_cuda
    with torch.no_grad():
        first, second = (e.eval()(i).joints.cpu() for e, i in ((estimator, image.detach()), (again, images)))
    assert (first - second).abs().max() < max(1e-4, limit)


def test_evaluation(cuda):
    results = []
    for device in ("cpu", "cuda"):
        benchmark = protocol.build("3dhp-like", images=8, size_px=64)
        results.append(evaluate(build("hmr_small").to(device), benchmark, None, 4))
    assert results[0].metrics["mpjpe_mm"] == pytest.approx(results[1].metrics["mpjpe_mm"], abs=0.01)
