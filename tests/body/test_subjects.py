"""Dressed subjects: complete, different from each other, without holes, and bound to the body."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from posegen.assets.making.textures import PATTERNS, cloth
from posegen.body.model import load_body, sample_betas
from posegen.body.subjects import (
    ALL_SUBJECTS,
    SOURCE_SUBJECTS,
    TEST_SUBJECTS,
    TRAIN_SUBJECTS,
    VALIDATION_SUBJECTS,
    DressedSubject,
    load_subjects,
)
from posegen.errors import ConfigError
from posegen.renderer.mesh import MeshRenderer
from posegen.scene import Camera, Light, Scene

BACK = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])  # a camera on +z that looks along -z


@pytest.fixture(scope="module")
def subjects(assets: Path) -> list[DressedSubject]:
    return load_subjects()


def frontal(count: int, size: int = 96) -> Scene:
    camera = Camera(
        BACK.expand(count, 3, 3), torch.tensor([0.0, -0.1, 3.4]).expand(count, 3), torch.full((count,), 1.7 * size),
        torch.full((count, 2), size / 2), size, size,
    )  # fmt: skip
    zero = torch.zeros(count, 24, 3)
    return Scene(
        zero, torch.zeros(count, 10), torch.zeros(count, 3), camera, torch.arange(count), Light.default(count),
        torch.full((count,), -1),
    )  # fmt: skip


def test_training_and_test_subjects_are_apart(subjects: list[DressedSubject]) -> None:
    assert len(SOURCE_SUBJECTS) >= 3 and len(TEST_SUBJECTS) >= 3
    assert set(SOURCE_SUBJECTS) < set(TRAIN_SUBJECTS)
    assert len({*TRAIN_SUBJECTS, *VALIDATION_SUBJECTS, *TEST_SUBJECTS}) == len(ALL_SUBJECTS)
    assert tuple(s.name for s in subjects) == ALL_SUBJECTS == TRAIN_SUBJECTS + VALIDATION_SUBJECTS + TEST_SUBJECTS
    assert [s.name for s in load_subjects(["heron", "amber"])] == ["heron", "amber"]
    with pytest.raises(ConfigError, match=r"unknown subject 'nobody'[\s\S]*amber"):
        load_subjects(["nobody"])


def test_meshes_are_well_formed(subjects: list[DressedSubject]) -> None:
    for subject in subjects:
        assert 5000 < len(subject.faces) < 9000
        assert subject.faces.max() < len(subject.template) and subject.faces.min() >= 0
        assert subject.albedo.min() >= 0 and subject.albedo.max() <= 1
        torch.testing.assert_close(subject.weights.sum(1), torch.ones(len(subject.weights)), atol=1e-4, rtol=0)
        assert all(torch.isfinite(t).all() for t in (subject.template, subject.shapedirs))


def test_subjects_follow_the_bodys_joints_and_shape(subjects: list[DressedSubject]) -> None:
    body = load_body()
    betas = sample_betas(3, torch.Generator().manual_seed(0))
    pose = 0.4 * torch.randn(3, 24, 3, generator=torch.Generator().manual_seed(1))
    skin = body(pose, betas, torch.ones(3, 3)).vertices
    for subject in subjects[::3]:
        dressed = subject.posed(pose, betas, torch.ones(3, 3))
        for b in range(3):
            gap = torch.cdist(dressed[b], skin[b]).amin(1)
            # Cloth lies within centimetres of the skin; a skirt's or long hair's free parts lie further away.
            assert float(gap.quantile(0.75)) < 0.035
            assert float(gap.max()) < 0.4


def test_nobody_has_a_hole(subjects: list[DressedSubject]) -> None:
    _, alpha = MeshRenderer(subjects)(frontal(len(subjects)))
    for mask in alpha[:, 0].numpy() > 0.5:
        _, pieces = ndimage.label(mask, np.ones((3, 3)))
        assert pieces == 1
        # The only background that is enclosed by the silhouette lies between the legs, open below: none.
        filled = ndimage.binary_fill_holes(mask)
        assert (filled & ~mask).sum() <= 2


def test_people_look_different_from_each_other(subjects: list[DressedSubject]) -> None:
    rgb, alpha = MeshRenderer(subjects)(frontal(len(subjects)))
    image = rgb + (1 - alpha)
    difference = torch.stack([(image - other).abs().mean((1, 2, 3)) for other in image])
    difference.fill_diagonal_(1)
    share = float(alpha.mean())
    assert float(difference.min()) > 0.08 * share


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_cloth_is_repeatable_and_uses_its_colours(pattern: str) -> None:
    points = np.random.default_rng(0).uniform(-0.3, 0.3, (4000, 3)) + [0, 0.3, 0]
    a, b = (0.8, 0.1, 0.1), (0.1, 0.1, 0.8)
    one = cloth(points, pattern, a, b, np.random.default_rng(5))
    np.testing.assert_array_equal(one, cloth(points, pattern, a, b, np.random.default_rng(5)))
    assert one.min() > 0 and one.max() <= 1
    blue = float((one[:, 2] > one[:, 0]).mean())
    assert blue == 0 if pattern == "solid" else 0.02 < blue < 0.98
