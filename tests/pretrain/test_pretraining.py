"""The clock's schedule, the store of pictures, and going on after a stop."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from posegen.errors import CheckpointError, PosegenError
from posegen.estimator.checkpoint import write_torch
from posegen.estimator.crop import DECLARED
from posegen.estimator.hmr_lite import hmr_lite
from posegen.estimator.labels import Labels
from posegen.pretrain.pictures import PictureMaker, Pictures, PictureStore
from posegen.pretrain.training import PretrainConfig, Pretraining, errors_mm
from posegen.scenes.split import load_split

pytestmark = pytest.mark.usefixtures("assets")
CPU = torch.device("cpu")


class FakeMaker:
    """Rows whose pictures hold their ids."""

    device = CPU

    def __call__(self, first: int, count: int) -> Pictures:
        ids = torch.arange(first, first + count)
        images = (ids % 256).to(torch.uint8)[:, None, None, None].expand(count, 3, 32, 32).contiguous()
        labels = Labels(
            torch.eye(3).expand(count, 24, 3, 3), torch.zeros(count, 10), torch.zeros(count, 24, 3),
            torch.zeros(count, 24, 2), torch.ones(count), torch.ones(count),
        )  # fmt: skip
        return Pictures(images, labels)


class Clock:
    """Goes on by one second each time that it is looked at."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def training(config: PretrainConfig, seed: int = 0) -> Pretraining:
    store = PictureStore(FakeMaker(), 8)  # type: ignore[arg-type]
    return Pretraining(hmr_lite(pretrained=False, seed=seed), store, config, Clock())


def test_new_rows_take_the_place_of_the_oldest() -> None:
    store = PictureStore(FakeMaker(), 6, first=100)  # type: ignore[arg-type]
    store.refill(4)
    assert len(store) == 4
    store.refill(4)
    assert len(store) == 6 and store.next_id == 108 and store.made == 8
    drawn = store.batch(200, torch.Generator().manual_seed(0)).images[:, 0, 0, 0]
    assert set(drawn.tolist()) == set(range(102, 108))


def test_the_rate_follows_the_clock_and_rendering_keeps_to_its_share() -> None:
    config = PretrainConfig(seconds=20, batch=2, render_batch=2, first_rows=4, block=1, render_share=0.5)
    run = training(config)
    assert run.rate_share(0.0) < run.rate_share(0.03) > run.rate_share(0.5) > run.rate_share(1.0)
    assert run.rate_share(1.0) == pytest.approx(0, abs=1e-12)
    run.fill()
    assert run.store.made == 4 and run.seconds == 0
    while run.progress < 1:
        run.block()
    assert run.seconds >= 20 and run.rendering / run.seconds == pytest.approx(0.5, abs=0.1)
    assert run.store.made > 8 and all(
        group["lr"] < rate
        for optimiser, rate in zip(run.optimisers, (config.learning_rate, config.trunk_rate), strict=True)
        for group in optimiser.param_groups
    )


def test_it_learns_and_goes_on_where_it_stopped(tmp_path) -> None:
    config = PretrainConfig(
        seconds=1000, batch=4, render_batch=4, first_rows=8, block=2, warmup_share=0, average=0.5, render_share=0
    )
    run = training(config)
    run.fill()
    first = run.block()
    run.save(tmp_path / "state.pt")
    others = [run.block() for _ in range(3)]
    assert others[-1] < first
    other = training(config, seed=1)
    other.resume(tmp_path / "state.pt")
    assert (other.steps, other.seconds, other.store.next_id) == (2, 1.0, 8)
    other.store.next_id = 0  # the same rows
    other.fill()
    assert other.block() == pytest.approx(others[0], rel=1e-4)
    for one, two in zip(other.averaged.state_dict().values(), run.averaged.state_dict().values(), strict=True):
        assert one.shape == two.shape
    write_torch({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="no state of a pre-training"):
        other.resume(tmp_path / "other.pt")


def test_a_training_that_blows_up_says_so() -> None:
    run = training(PretrainConfig(seconds=10, batch=2, render_batch=2, first_rows=2, block=1))
    run.fill()
    with torch.no_grad():
        run.model.regressor.update.weight.fill_(float("nan"))
    with pytest.raises(PosegenError, match="blew up at step 1"):
        run.block()


def test_pictures_hold_their_people_and_their_labels_fit() -> None:
    maker = PictureMaker(load_split()["source-wide"], replace(DECLARED["hmr_lite"], size_px=64), 0, CPU)
    rows = maker(0, 12)
    labels = rows.labels
    assert rows.images.dtype == torch.uint8 and len(rows) == 12
    assert (labels.joints_crop.abs() < 1.1).all() and labels.joints_crop.std() > 0.2
    assert torch.allclose(labels.joints[:, 0], torch.zeros(12, 3), atol=1e-6)
    model = hmr_lite(pretrained=False)
    joints = model.skeleton(labels.rotations, labels.betas)
    assert (joints - labels.joints).abs().max() < 1e-4
    assert torch.equal(maker(8, 4).images, rows.images[8:])
    errors = errors_mm(model, rows)
    assert 100 < errors["pa_mpjpe_mm"] < errors["mpjpe_mm"] < 1000


def test_the_head_learns_first_and_the_trunk_stays() -> None:
    config = PretrainConfig(
        seconds=10, batch=4, render_batch=4, first_rows=8, head_steps=30, head_batch=8, head_dropout=0.1
    )
    run = training(config)
    run.fill()
    before = {key: value.clone() for key, value in run.model.state_dict().items()}
    told: list[int] = []
    run.head_start(told.append)
    assert told == list(range(1, 31)) and run.seconds == 0 and run.steps == 0
    after = run.model.state_dict()
    moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert any(key.startswith("regressor.") for key in moved) and "backbone.project.weight" in moved
    assert not any(key.startswith("backbone.network.") for key in moved)
    rows = run.store.all()
    start = hmr_lite(pretrained=False)
    assert errors_mm(run.averaged, rows)["mpjpe_mm"] < 0.7 * errors_mm(start, rows)["mpjpe_mm"]
    again = training(config)
    again.fill()
    again.head_start()
    assert all(torch.equal(value, again.model.state_dict()[key]) for key, value in after.items())
