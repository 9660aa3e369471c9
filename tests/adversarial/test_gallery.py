"""Sheets of what a generator makes: there when they are due, and without a trace in the training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_world import SIZE, LinearEstimator, small_world

from posegen.adversarial.gallery import sheet_name
from posegen.adversarial.loop import AdversarialLoop
from posegen.config import ArmTask, compose
from posegen.files.pictures import read_rgb

pytestmark = pytest.mark.usefixtures("assets")

WORDS = (
    "experiment=smoke", f"image_size={SIZE}", "adversarial.steps=5", "adversarial.batch=8",
    "adversarial.feedback_batch=4",
    "adversarial.calibration_images=8", "adversarial.meter_samples=8", "adversarial.warmup_steps=1",
    "tracking.gallery_every=2", "tracking.gallery_images=3", "feedback=band",
)  # fmt: skip


def trained(gallery: Path | None) -> AdversarialLoop:
    task = ArmTask(compose(list(WORDS)))
    task = replace(task, gallery=None if gallery is None else str(gallery))
    loop = AdversarialLoop(task, world=small_world(), estimator=LinearEstimator())
    while loop.step_index < loop.steps:
        loop.step()
    return loop


def test_sheets_come_every_so_many_steps_and_change_nothing(tmp_path: Path) -> None:
    with_sheets, without = trained(tmp_path / "gallery"), trained(None)
    assert without.gallery is None
    written = sorted(file.name for file in (tmp_path / "gallery").iterdir())
    assert written == [sheet_name(2), sheet_name(4), sheet_name(5)]
    first, last = (read_rgb(tmp_path / "gallery" / sheet_name(step), turned=False) for step in (2, 5))
    assert first.shape == last.shape and not np.array_equal(first, last)
    for name, value in with_sheets.generator.state_dict().items():
        assert torch.equal(value, without.generator.state_dict()[name])
    assert torch.equal(with_sheets.random.get_state(), without.random.get_state())
