"""The better embedded estimator: its trunk is ImageNet's, and its features see places."""

from __future__ import annotations

import pytest
import torch
from stick_body import stick_body

from posegen.errors import CheckpointError
from posegen.estimator import declared_crop
from posegen.estimator.checkpoint import read_state, write_npz
from posegen.estimator.efficientnet import imagenet_file
from posegen.estimator.hmr_lite import IMAGE_SIZE, PlacesBackbone, hmr_lite

pytestmark = pytest.mark.usefixtures("assets")


def test_the_trunk_starts_from_imagenet_and_the_head_from_its_seed() -> None:
    one, two = hmr_lite(pretrained=False, body=stick_body()), hmr_lite(pretrained=False, body=stick_body(), seed=1)
    state = read_state(imagenet_file())
    for model in (one, two):
        assert torch.equal(model.backbone.blocks[15]._project_conv.weight, state["_blocks.15._project_conv.weight"])
        assert torch.equal(model.backbone.stem_bn.running_var, state["_bn0.running_var"])
    assert not torch.equal(one.backbone.project.weight, two.backbone.project.weight)
    assert 5.0e6 < sum(p.numel() for p in one.parameters()) < 5.5e6
    assert one.image_size == declared_crop("hmr_lite", {}).size_px == IMAGE_SIZE


def test_imagenet_weights_that_do_not_fit_are_refused(tmp_path) -> None:
    state = read_state(imagenet_file())
    del state["_blocks.3._bn1.weight"]
    with pytest.raises(CheckpointError, match="EfficientNet-Lite0"):
        PlacesBackbone().load_imagenet(write_npz(state, tmp_path / "cut.npz"))


def test_a_picture_and_its_shifted_copy_have_other_features() -> None:
    """Averages over the picture would be nearly the same."""
    model = hmr_lite(pretrained=False, body=stick_body())
    image = torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    image[:, :, 20:50, 20:50] = 1
    with torch.no_grad():
        here, there = model.features(image), model.features(image.roll((48, 48), (2, 3)))
    assert torch.nn.functional.cosine_similarity(here, there).item() < 0.98
