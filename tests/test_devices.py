"""Where to compute: a GPU that was given and cannot be used is told, never replaced by the CPU in silence."""

from __future__ import annotations

import pytest
import torch

from posegen.devices import VISIBLE, default_device
from posegen.errors import EngineError


@pytest.mark.parametrize("visible", [None, "", "-1"])
def test_without_a_gpu_the_cpu_is_taken(monkeypatch, visible):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv(VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)
    assert default_device() == torch.device("cpu")


def test_usable_gpu_is_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv(VISIBLE, "0")
    assert default_device() == torch.device("cuda")


def test_given_gpu_that_cannot_be_used_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(VISIBLE, "3")
    with pytest.raises(EngineError, match=r"CUDA_VISIBLE_DEVICES=3[\s\S]*gpus_per_renderer=0"):
        default_device()
