"""The target with nothing to guess: its people are where the scenes have them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lifting_truth import measured

from posegen.body.model import load_body
from posegen.scenes.sampler import SceneSampler
from posegen.scenes.split import load_split
from posegen.target.anchors import anchors_of
from posegen.target.lifted import read_lifted, write_lifted
from posegen.target.truth import true_lifted

pytestmark = pytest.mark.usefixtures("assets")
IMAGES = 12


def test_the_truth_has_no_error_and_survives_its_file(tmp_path) -> None:
    parts = list(load_split().targets.values())
    lifted = read_lifted(write_lifted(true_lifted(parts, IMAGES), tmp_path / "true.npz"))
    assert len(lifted) == IMAGES * len(parts) == len(set(lifted.names))
    body = load_body(resolution="low")
    for number, part in enumerate(parts):
        rows = np.arange(number * IMAGES, (number + 1) * IMAGES)
        draw = SceneSampler(part).draw(torch.arange(IMAGES), 0)
        errors = measured(lifted.pick(rows).hypotheses, draw, body)
        assert errors.joints_mm.max() < 0.1 and errors.elevation_deg.max() < 0.1 and errors.up_deg.max() < 0.1


def test_every_person_is_an_anchor_in_the_frame_of_the_camera() -> None:
    part = load_split().tests["ski-like"]
    anchors = anchors_of(true_lifted([part], IMAGES), temperature=2.0)
    assert len(anchors) == IMAGES and torch.allclose(anchors.weight, torch.full((IMAGES,), 1 / IMAGES))
    scene = SceneSampler(part).draw(torch.arange(IMAGES), 0).scene
    assert torch.equal(anchors.pose[:, 1:], scene.pose[:, 1:])
