"""The stand-ins' target parts: unlabelled pictures of the kind that a test shows, and 2-D keypoints of them.

What a user has of his own target: crops, and what a keypoint detector or an annotator says of them. Who and what is in
them is no test's (posegen.scenes.disjoint proves it); what made them, the third dimension above all, is not told.

Dimensions: N pictures, K joints of the keypoints' set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posegen.benchmarks.embedded.stand_ins import BATCH, QUICK_IMAGES, EmbeddedBenchmark, Progress, cached_set
from posegen.body.joint_sets import LIMBS12, SMPL24, JointSet, joint_set
from posegen.counter import hashed_normal, hashed_uniform
from posegen.errors import ConfigError
from posegen.scenes.sampler import EMBEDDED_SIZE_PX
from posegen.scenes.split import Split, load_split
from posegen.seeds import derive


@dataclass(frozen=True)
class KeypointNoise:
    """How far 2-D keypoints are from the truth."""

    sigma_px: float = 0.0  # of each coordinate, at the pictures' size
    missing_share: float = 0.0  # of the joints, which get confidence 0

    def __post_init__(self) -> None:
        if not (0 <= self.sigma_px < float("inf") and 0 <= self.missing_share < 1):
            raise ConfigError("keypoint noise is a sigma of at least 0 px and a share of at least 0 and below 1")


@dataclass(frozen=True)
class TargetPart:
    """Unlabelled pictures with 2-D keypoints."""

    name: str
    images: Tensor  # (N,3,S,S) uint8
    keypoints: Tensor  # (N,K,3): x, y in px of the crop, confidence in [0,1]; a joint of confidence 0 has no place
    joint_set: str  # whose K joints

    def __len__(self) -> int:
        return len(self.images)


def build_target(  # noqa: PLR0913 - the keys of target.options, each by its name
    test: str,
    images: int = QUICK_IMAGES,
    seed: int = 0,
    size_px: int = EMBEDDED_SIZE_PX,
    keypoints: str = LIMBS12.name,
    noise: KeypointNoise | None = None,
    split: str | Path | Mapping[str, Any] | Split = "embedded",
    progress: Progress | None = None,
    margin: float = 1.0,
) -> TargetPart:
    """The target part of the stand-in called `test`, rendered at first use.

    Args:
        images: how many; a larger part begins with the smaller one.
        keypoints: a joint set; joints of it that SMPL has not by name get confidence 0.
        noise: none by default.
        margin: pictures this much wider than the person's box, whose keypoints they hold.
    """
    loaded = split if isinstance(split, Split) else load_split(split)
    if test not in loaded.targets:
        raise ConfigError(f"{test!r} has no target part", where=f"split {loaded.name}", choices=loaded.targets)
    if images < 1 or size_px < 8:
        raise ConfigError(f"{images} images of {size_px} px make no target", where=test)
    part = loaded.targets[test]
    if margin != 1.0:
        wider = replace(part.camera, box_factor=part.camera.box_factor * margin)
        part = replace(part, camera=wider)
    data = cached_set(part, images, seed, size_px, progress=progress)
    benchmark = EmbeddedBenchmark(part, data, loaded)
    joints = torch.cat([batch.joints for batch in benchmark.batches(BATCH)])  # never all pictures as floats
    camera = benchmark.camera(slice(0, len(data)))
    pixels = joints[..., :2] / joints[..., 2:] * camera.focal[:, None, None] + camera.centre[:, None]
    found = _keypoints(pixels, joint_set(keypoints), noise or KeypointNoise(), derive(seed, "keypoints", part.name))
    return TargetPart(part.name, torch.from_numpy(data.images), found, keypoints)


def _keypoints(pixels: Tensor, wanted: JointSet, noise: KeypointNoise, stream: int) -> Tensor:
    """Projected SMPL joints (N,24,2) px as keypoints (N,K,3) of a set; row i is a function of (i, stream) alone."""
    count, joints = len(pixels), len(wanted)
    ids = torch.arange(count)
    in_wanted, in_smpl = wanted.common(SMPL24)
    found = torch.zeros(count, joints, 3)
    jitter = hashed_normal(ids, derive(stream, "jitter"), 2 * joints).reshape(count, joints, 2)
    seen = hashed_uniform(ids, derive(stream, "missing"), joints) >= noise.missing_share
    found[:, in_wanted, :2] = pixels[:, in_smpl] + noise.sigma_px * jitter[:, in_wanted]
    found[:, in_wanted, 2] = 1.0
    return found * seen[..., None]
