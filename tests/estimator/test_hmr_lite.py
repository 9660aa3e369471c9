"""The better embedded estimator: its trunk is BlazePose's, and what it learns begins below the first maps."""

from __future__ import annotations

import pytest
import torch
from stick_body import stick_body

from posegen.assets import asset_path
from posegen.errors import CheckpointError
from posegen.estimator import declared_crop
from posegen.estimator.blazepose import blazepose
from posegen.estimator.checkpoint import read_state, write_npz
from posegen.estimator.hmr_lite import IMAGE_SIZE, SHIPPED_WEIGHTS, hmr_lite
from posegen.estimator.labels import LossWeights, supervised_loss
from posegen.estimator.tflite_graph import read_tflite
from posegen.pretrain.pictures import PictureMaker
from posegen.scenes.split import load_split

pytestmark = pytest.mark.usefixtures("assets")
PICTURES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_the_trunk_starts_from_blazepose_and_the_head_from_its_seed() -> None:
    one, two = hmr_lite(pretrained=False, body=stick_body()), hmr_lite(pretrained=False, body=stick_body(), seed=1)
    theirs = blazepose().network.state_dict()
    for model in (one, two):
        ours = model.backbone.network.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    assert not torch.equal(one.backbone.project.weight, two.backbone.project.weight)
    assert 4.0e6 < sum(p.numel() for p in one.parameters()) < 5.0e6
    assert one.image_size == declared_crop("hmr_lite", {}).size_px == IMAGE_SIZE == 128
    assert one.crop == declared_crop("hmr_lite", {}) and one.crop.upright


def test_its_features_hold_the_landmarks_that_blazepose_finds() -> None:
    model = hmr_lite(pretrained=False, body=stick_body())
    large = torch.nn.functional.interpolate(PICTURES, (256, 256), mode="bilinear", align_corners=False)
    with torch.no_grad():
        *_, world = model.backbone.network(large)
        theirs = blazepose().raw(large)["world"]
    assert torch.allclose(world, theirs, atol=1e-4)


@pytest.mark.parametrize("fixed_above_px", [None, 32])
def test_every_part_is_learned_but_what_is_to_stay_fixed(fixed_above_px) -> None:
    model = hmr_lite(pretrained=False, body=stick_body(), fixed_above_px=fixed_above_px).train_mode()
    shapes = {op.index: read_shape for op, read_shape in _made_shapes()}
    made = [shapes[int(name.split("_")[-2])] for name, _ in model.backbone.network.named_parameters()]
    assert max(shape[1] for shape in made if len(shape) == 4) == (fixed_above_px or 128)
    rows = PictureMaker(load_split()["source-wide"], model.crop, 0, torch.device("cpu"))(0, 4)
    supervised_loss(model(rows.images / 255), rows.labels, LossWeights()).backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []


def _made_shapes() -> list:
    graph = read_tflite(asset_path("blazepose_full"))
    return [(operation, graph.shapes[operation.output]) for operation in graph.operations]


def test_the_shipped_weights_are_taken_and_others_refused(tmp_path) -> None:
    state = read_state(SHIPPED_WEIGHTS)
    shipped = hmr_lite()
    assert torch.equal(shipped.backbone.project.weight, state["backbone.project.weight"].float())
    del state["backbone.scale.weight"]
    with pytest.raises(CheckpointError, match=r"backbone\.scale\.weight"):
        hmr_lite(write_npz(state, tmp_path / "cut.npz"))


def test_the_people_it_knows_are_seen_within_a_hand_s_breadth() -> None:
    """Its own source on strangers, as docs/reference/estimators.md has it on more pictures."""
    from posegen.pretrain.training import errors_mm

    model = hmr_lite()
    rows = PictureMaker(load_split()["source-wide-like"], model.crop, 0, torch.device("cpu"))(0, 64)
    assert errors_mm(model, rows)["mpjpe_mm"] < 100


def test_pictures_of_any_side_are_taken() -> None:
    model = hmr_lite()
    with torch.no_grad():
        small, large = model(PICTURES), model(torch.rand(1, 3, 256, 256))
    assert small.joints.shape == (2, 24, 3) and large.camera is not None and torch.isfinite(large.joints).all()
