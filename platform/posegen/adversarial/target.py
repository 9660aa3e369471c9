"""The user's domain as a generator's training takes it: lifted people, their keypoints, and their pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posegen.adversarial.reals import Reals, TargetSkeletons
from posegen.body.joint_sets import joint_set
from posegen.config.task import TargetFiles
from posegen.errors import DataError
from posegen.estimator.crop import crop_of
from posegen.estimator.weak_labels import WeakRows
from posegen.feedback import FeedbackConfig
from posegen.files.arrays import read_npy
from posegen.target.anchors import Anchors, anchors_of
from posegen.target.config import TargetConfig
from posegen.target.crops import TargetCrops
from posegen.target.lifted import Lifted, read_lifted
from posegen.target.people import People, read_people


@dataclass(frozen=True)
class GeneratorTarget:
    """What a generator is shown of the target.

    Attributes:
        anchors: lifted people with the cameras that may see them, weighed.
        keypoints: (N,K,3) px of theirs; joint_set: of the K joints.
        people: with pictures, None where the target is known by keypoints alone.
    """

    anchors: Anchors
    keypoints: Tensor
    joint_set: str
    settings: TargetConfig
    people: People | None = None

    def reals(self, pool: Tensor) -> Reals:
        """What discriminators see as real, beside the pool's poses (P,24,3)."""
        skeletons = TargetSkeletons(self.keypoints, joint_set(self.joint_set))
        return Reals(pool, self.anchors, skeletons, self.settings.scene_share)

    def weak_rows(self, estimator: Any, feedback: FeedbackConfig) -> WeakRows | None:
        """Pictures evenly spread over the target, for the signal that looks at them; None for the others."""
        if feedback.signal != "agreement" or self.people is None or not self.people.target.pictures:
            return None
        shown = self.people.shown
        count = min(len(shown), feedback.weak_images)
        numbers = np.unique(np.linspace(0, len(shown) - 1, count).round().astype(int))
        return TargetCrops(shown, crop_of(estimator), keep_mb=0).rows(numbers.tolist())


def of_lifted(lifted: Lifted, settings: TargetConfig, weights: Tensor | None, people: People | None) -> GeneratorTarget:
    """The target of a lifted file.

    Args:
        weights: (N,) of its people; None weighs all alike.
    """
    anchors = anchors_of(lifted, settings.temperature)
    if weights is not None:
        if len(weights) != len(lifted):
            raise DataError(f"{len(weights)} weights for {len(lifted)} people of the target", where="target")
        anchors = anchors.weighed(weights)
    return GeneratorTarget(anchors, torch.from_numpy(lifted.keypoints), lifted.joint_set, settings, people)


def generator_target(settings: TargetConfig, files: TargetFiles | None) -> GeneratorTarget | None:
    """The target of an arm that is shown it, None of the others."""
    if files is None:
        return None
    weights = None
    if files.weights is not None:
        weights = torch.from_numpy(read_npy(files.weights, "the weights of the target's people")).float()
    return of_lifted(read_lifted(files.lifted), settings, weights, read_people(Path(files.people)))
