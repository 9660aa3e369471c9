"""Pre-training as it runs on a GPU, on a pretended one: the same pictures and labels, nothing left on the CPU."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from posegen.estimator.crop import DECLARED
from posegen.estimator.hmr_lite import hmr_lite
from posegen.estimator.labels import Labels
from posegen.pretrain.pictures import PictureMaker, PictureStore
from posegen.pretrain.training import PretrainConfig, Pretraining, errors_mm
from posegen.scenes.split import load_split

pytestmark = pytest.mark.usefixtures("assets")
CROP = replace(DECLARED["hmr_lite"], size_px=48)


def test_pictures_made_on_the_gpu_are_those_of_the_cpu(pretend) -> None:
    """Embree's on the CPU, rasterised on the GPU; at an edge a sample may fall to either side."""
    for name in ("source-wide", "validation"):
        part = load_split()[name]
        on_cpu = PictureMaker(part, CROP, 0, torch.device("cpu"))(5, 12)
        on_cuda = PictureMaker(part, CROP, 0, torch.device("cuda"))(5, 12)
        assert pretend.moves > 0 and on_cuda.images.is_cuda
        off = (on_cpu.images.int() - on_cuda.images.cpu().int()).abs()
        assert (off > 1).float().mean() < 1e-3
        for field in fields(Labels):
            one, two = (getattr(rows.labels, field.name) for rows in (on_cpu, on_cuda))
            assert two.is_cuda and torch.allclose(one, two.cpu(), atol=1e-5)


def test_a_training_steps_on_the_gpu(pretend, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    device = torch.device("cuda")
    store = PictureStore(PictureMaker(load_split()["source-wide"], CROP, 0, device), 8)
    config = PretrainConfig(seconds=1e-3, batch=4, render_batch=4, first_rows=4, block=1)
    training = Pretraining(hmr_lite(pretrained=False).to(device), store, config)
    training.fill()
    assert training.block() > 0 and training.steps == 1
    assert all(value.is_cuda for value in training.averaged.state_dict().values())
    assert errors_mm(training.averaged, store.maker(0, 4))["mpjpe_mm"] > 50
