"""Target parts: other people's pictures of the test's kind, keypoints that fit, nothing of the third dimension."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from posegen.benchmarks.embedded.stand_ins import BATCH, EMBEDDED_TESTS, EmbeddedBenchmark, cached_set, mesh_renderer
from posegen.benchmarks.embedded.target_parts import KeypointNoise, TargetPart, build_target
from posegen.benchmarks.protocol import EvalBatch
from posegen.body.joint_sets import COCO17, LIMBS12, SMPL24
from posegen.errors import ConfigError
from posegen.scenes.sampler import SceneSampler
from posegen.scenes.split import load_split

IMAGES = 6


@pytest.fixture(scope="module")
def parts(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TargetPart]:
    return {name: build_target(name, IMAGES) for name in (*EMBEDDED_TESTS, "validation")}


def test_nothing_of_the_third_dimension_is_told(parts: dict[str, TargetPart]) -> None:
    assert [field.name for field in fields(TargetPart)] == ["name", "images", "keypoints", "joint_set"]
    for name, part in parts.items():
        assert part.name == f"{name}-target" and len(part) == IMAGES
        assert part.images.shape == (IMAGES, 3, 96, 96) and part.images.dtype == torch.uint8
        assert part.keypoints.shape == (IMAGES, 12, 3) and part.joint_set == LIMBS12.name
        assert (part.keypoints[..., 2] == 1).all()


def test_never_all_pictures_as_floats(
    parts: dict[str, TargetPart], monkeypatch: pytest.MonkeyPatch
) -> None:  # 2000 of 512 px, at once, took 21 GB
    made = EmbeddedBenchmark.batch
    asked: list[int] = []

    def batch(self: EmbeddedBenchmark, rows: slice) -> EvalBatch:
        asked.append(rows.stop - rows.start)
        return made(self, rows)

    monkeypatch.setattr(EmbeddedBenchmark, "batch", batch)
    part = build_target("validation", BATCH + IMAGES, size_px=32)
    assert asked == [BATCH, IMAGES] and len(part.images) == len(part.keypoints) == BATCH + IMAGES


def test_keypoints_lie_on_the_people(parts: dict[str, TargetPart]) -> None:
    split = load_split()
    for name, part in parts.items():
        scene = SceneSampler(split.targets[name])(torch.arange(IMAGES), 0)
        _, alpha = mesh_renderer(split.targets[name])(scene)
        pixels = part.keypoints[..., :2].floor().long()
        assert int(pixels.min()) >= 0 and int(pixels.max()) < 96, "the crop holds all of them"
        covered = torch.stack([alpha[i, 0][pixels[i, :, 1], pixels[i, :, 0]] for i in range(IMAGES)])
        assert float((covered > 0.5).float().mean()) > 0.85, name


def test_keypoints_are_the_truths_by_name(parts: dict[str, TargetPart]) -> None:
    split = load_split()
    part = split.targets["3dhp-like"]
    truth = EmbeddedBenchmark(part, cached_set(part, IMAGES, 0), split)
    joints, camera = truth.batch(slice(0, IMAGES)).joints, truth.camera(slice(0, IMAGES))
    pixels = joints[..., :2] / joints[..., 2:] * camera.focal[:, None, None] + camera.centre[:, None]
    for index, joint in enumerate(LIMBS12.joints):
        ours = parts["3dhp-like"].keypoints[:, index, :2]
        assert torch.allclose(ours, pixels[:, SMPL24.index(joint)], atol=1e-4), joint


def test_noise_is_of_the_size_asked_for_and_repeats(parts: dict[str, TargetPart]) -> None:
    exact = build_target("ski-like", 40, keypoints="smpl24")
    noisy = build_target("ski-like", 40, keypoints="smpl24", noise=KeypointNoise(2.0, 0.25))
    again = build_target("ski-like", 40, keypoints="smpl24", noise=KeypointNoise(2.0, 0.25))
    assert torch.equal(noisy.keypoints, again.keypoints)
    seen = noisy.keypoints[..., 2] == 1
    assert float(seen.float().mean()) == pytest.approx(0.75, abs=0.05)
    assert (noisy.keypoints[~seen] == 0).all(), "a joint that is missing has no place"
    off = (noisy.keypoints - exact.keypoints)[seen][:, :2]
    assert float(off.std()) == pytest.approx(2.0, rel=0.1) and abs(float(off.mean())) < 0.3
    assert torch.equal(exact.images[:IMAGES], parts["ski-like"].images), "a larger part begins with the smaller one"


def test_joints_that_smpl_has_not_get_no_confidence(parts: dict[str, TargetPart]) -> None:
    part = build_target("agora-like", IMAGES, keypoints="coco17")
    known = np.array([joint in SMPL24.joints for joint in COCO17.joints])
    assert known.sum() == 12
    assert (part.keypoints[:, known, 2] == 1).all() and (part.keypoints[:, ~known] == 0).all()


def test_bad_requests_are_named(assets: Path) -> None:
    with pytest.raises(ConfigError, match=r"'source' has no target part[\s\S]*ski-like"):
        build_target("source")
    with pytest.raises(ConfigError, match="unknown joint set"):
        build_target("ski-like", IMAGES, keypoints="stick")
    with pytest.raises(ConfigError, match="keypoint noise"):
        KeypointNoise(-1.0)
    with pytest.raises(ConfigError, match="make no target"):
        build_target("ski-like", 0)
