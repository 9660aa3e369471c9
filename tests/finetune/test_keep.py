"""What an estimator knew is kept: distance from the old weights, and from the old answers."""

import pytest
import torch
from torch import nn

from posegen.errors import ConfigError
from posegen.finetune.keep import OldAnswers, StartingPoint, check_keep
from posegen.scene import Prediction


class Answers(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(3, 72)

    def forward(self, images):
        return Prediction(self.map(images.mean((2, 3))).view(-1, 24, 3), "smpl24")


def test_l2sp_is_relative_to_each_channels_size():
    module = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[3.0, 4.0], [0.03, 0.04]]))
    penalty = StartingPoint(module)
    assert penalty().item() == 0
    with torch.no_grad():
        module.weight[1] *= 1.1  # the small channel by a tenth of itself, the other not at all
    assert penalty().item() == pytest.approx(0.01 / 2)
    with torch.no_grad():
        module.weight[0] *= 1.1
    assert penalty().item() == pytest.approx(0.01)
    penalty().backward()
    assert torch.allclose(module.weight.grad * module.weight, module.weight.grad.abs() * module.weight.abs())


def test_l2sp_leaves_what_is_not_trained_alone():
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    penalty = StartingPoint(module)
    with torch.no_grad():
        module.bias += 5
    assert penalty().item() == 0


def test_l2sp_pulls_back_in_training():
    def trained(weight):
        torch.manual_seed(0)
        module = nn.Linear(4, 4)
        penalty, start = StartingPoint(module), module.weight.detach().clone()
        optimiser = torch.optim.Adam(module.parameters(), lr=0.01)
        for _ in range(100):
            loss = (module(torch.eye(4)) - 3).square().mean() + weight * penalty()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return (module.weight - start).norm().item()

    assert trained(1.0) < 0.5 * trained(0.0)


def test_old_answers_stay_those_of_the_start():
    torch.manual_seed(0)
    estimator, images = Answers(), torch.rand(2, 3, 4, 4)
    old = OldAnswers(estimator)
    assert old(estimator(images), images).item() == pytest.approx(0, abs=1e-6)
    moved = estimator(images)
    shifted = Prediction(moved.joints + torch.tensor([0.0, 0.3, 0.0]), "smpl24")
    assert old(shifted, images).item() == pytest.approx(0, abs=1e-6)  # both are taken about their own root
    joints = moved.joints.clone()
    joints[:, 20, 0] += 0.24
    assert old(Prediction(joints, "smpl24"), images).item() == pytest.approx(0.01, abs=1e-6)
    with torch.no_grad():
        estimator.map.weight += 1
    assert old(moved, images).item() == pytest.approx(0, abs=1e-6)
    assert not any(parameter.requires_grad for parameter in old.old.parameters())


def test_unknown_kinds_and_missing_source_rows_are_told():
    check_keep("none", 0)
    check_keep("distill", 4)
    with pytest.raises(ConfigError, match="unknown way") as caught:
        check_keep("ewc", 4)
    assert caught.value.choices == ["none", "l2sp", "distill"]
    with pytest.raises(ConfigError, match="needs source rows"):
        check_keep("distill", 0)
