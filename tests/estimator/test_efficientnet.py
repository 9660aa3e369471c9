"""EfficientNet-Lite0: parity with the package it takes weights from, and the estimator on it.

The golden numbers are of efficientnet_lite_pytorch 0.1.0 with the weights of seeded_weights.py (variances times 0.3).
"""

from __future__ import annotations

import pytest
import torch
from seeded_weights import seeded_images, seeded_state
from stick_body import stick_body

from posegen.errors import CheckpointError, ConfigError
from posegen.estimator import build, load_checkpoint, save_checkpoint
from posegen.estimator.checkpoint import read_state
from posegen.estimator.efficientnet import imagenet_file
from posegen.estimator.efficientnet_lite import EfficientNetLite0


def state() -> dict[str, torch.Tensor]:
    shapes = {key: tuple(value.shape) for key, value in EfficientNetLite0().state_dict().items()}
    found = seeded_state(shapes)
    return {key: value * 0.3 if key.endswith("running_var") else value for key, value in found.items()}


def test_golden_numbers_of_the_package():
    trunk = EfficientNetLite0()
    trunk.load_imagenet({**state(), "_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)})
    with torch.no_grad():
        features = trunk.eval()((seeded_images(1, 128) - 0.5) / 0.25)
    assert features.shape == (1, 1280, 4, 4)
    assert features.mean().item() == pytest.approx(0.49602899, abs=1e-5)
    assert features.std().item() == pytest.approx(0.79154295, abs=1e-5)
    assert features[0, 2, 1, 2].item() == pytest.approx(1.28907847, abs=1e-4)
    means = features[0, [10, 200, 1279]].mean((1, 2))
    assert torch.allclose(means, torch.tensor([0.54881102, 0.0, 0.06725912]), atol=1e-5)


def test_keys_are_the_packages():
    keys = [key for key in EfficientNetLite0().state_dict() if not key.endswith("num_batches_tracked")]
    assert len(keys) == 245
    assert {"_conv_stem.weight", "_blocks.0._project_conv.weight", "_blocks.15._expand_conv.weight"} <= set(keys)
    assert "_blocks.0._expand_conv.weight" not in keys  # the first block does not expand
    assert sum(p.numel() for p in EfficientNetLite0().parameters()) == 3_371_008


@pytest.mark.slow
def test_published_weights_fit():
    trunk = EfficientNetLite0()
    trunk.load_imagenet(read_state(imagenet_file()))
    with torch.no_grad():
        features = trunk.eval()((seeded_images(1, 224) - 0.5) / 0.25)
    assert features.mean().item() == pytest.approx(0.10675992, abs=1e-5)
    assert features.std().item() == pytest.approx(0.50618464, abs=1e-5)


def test_a_step_changes_it_and_save_load_agree(tmp_path):
    model = build("efficientnet", pretrained=False, body=stick_body(), image_size=64)
    images = seeded_images(2, 96)
    before = model(images).joints.detach()
    optimiser = torch.optim.Adam(model.train_mode(frozen_batchnorm=True).parameters(), lr=1e-4)
    model(images).rotations.square().sum().sub(model(images).joints.sum()).backward()
    assert all(p.grad is not None for p in model.parameters())
    optimiser.step()
    path = save_checkpoint(model, tmp_path / "e.pt")
    again = load_checkpoint("efficientnet", path, image_size=64)
    with torch.no_grad():
        after = model.eval()(images).joints
        assert torch.equal(again(images).joints, after)
    assert not torch.allclose(before, after)
    with pytest.raises(CheckpointError, match="of estimator 'efficientnet', not 'hmr_small'"):
        load_checkpoint("hmr_small", path)


def test_image_size_must_fit_the_strides():
    with pytest.raises(ConfigError, match="not a multiple of 32"):
        build("efficientnet", pretrained=False, body=stick_body(), image_size=100)
