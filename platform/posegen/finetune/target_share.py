"""A share of each batch is pictures of the target, taught by their 2-D keypoints alone.

As usual in the field (HMR, SPIN): pictures without 3-D labels join the batch and weigh by their reprojection loss (see
posegen.estimator.weak_labels). Which people a step shows is a function of the seed and the step; people who are held
out are never shown, and the guard watches the reprojection error on them.

Dimensions: B rows of this rank, K joints.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from posegen.body.joint_sets import joint_set
from posegen.errors import ConfigError, DataError
from posegen.estimator.crop import crop_of
from posegen.estimator.weak_labels import MIN_COMMON, WeakRows, reprojection_error, reprojection_loss
from posegen.finetune.config import FinetuneConfig
from posegen.parallel import Parallel
from posegen.scene import Prediction
from posegen.seeds import torch_generator
from posegen.target.crops import TargetCrops
from posegen.target.people import People


class TargetShare:
    """The target's part of a fine-tuning.

    Args:
        people: of the target, with pictures; those held out are measured, the others shown.
        settings: `target_share` of `batch` is shown.
        estimator: tells its crop and joints.
        seed: of the choice of people.
    """

    def __init__(self, people: People, settings: FinetuneConfig, estimator: Any, seed: int, parallel: Parallel) -> None:
        names, own = joint_set(people.target.joint_set), joint_set(estimator.joint_set)
        if len(names.common(own)[0]) < MIN_COMMON:
            raise ConfigError(
                f"keypoints of {names.name} and an estimator of {own.name} share too few joints to teach",
                where="finetune.target_share", choices=own.joints,
            )  # fmt: skip
        if not len(people.shown):
            raise DataError("the target has nobody to train on", where="target.held_share")
        crop = crop_of(estimator)
        self.names, self.seed, self.parallel = names, seed, parallel
        self.total = round(settings.batch * settings.target_share)  # of all ranks
        parallel.share(self.total, "finetune.batch * finetune.target_share")
        self.weight = settings.weight_target
        self.crops = TargetCrops(people.shown, crop, settings.target_keep_mb)
        held = people.kept_back
        count = min(len(held), settings.guard_rows)
        mine = list(range(parallel.rank, count, parallel.world_size))
        self.held = TargetCrops(held, crop, 0).rows(mine) if mine else None

    def rows(self, step: int) -> WeakRows:
        """Whom a step shows on this rank."""
        generator = torch_generator(self.seed, "finetune", "target", step)
        chosen = torch.randint(len(self.crops), (self.total,), generator=generator)
        return self.crops.rows(self.parallel.slice(chosen).tolist())

    def loss(self, prediction: Prediction, keypoints: Tensor) -> Tensor:
        """The weighted reprojection loss of a prediction of B target rows with keypoints (B,K,3), crop units."""
        return self.weight * reprojection_loss(prediction, keypoints, self.names)

    def error(self, prediction: Prediction, keypoints: Tensor) -> Tensor:
        """The reprojection error (B,) in thousandths of half a crop's side."""
        return 1000 * reprojection_error(prediction, keypoints, self.names)


def following(keypoints: Tensor, zoom: Tensor, shift: Tensor) -> Tensor:
    """Keypoints (B,K,3) of crops that were jittered (see posegen.estimator.augment.crop_jitter); what has left the
    picture is not seen more."""
    moved = (keypoints[..., :2] - 2 * shift[:, None]) * zoom[:, None, None]
    seen = (moved.abs() <= 1).all(-1, keepdim=True)
    return torch.cat([torch.where(seen, moved, 0.0), torch.where(seen, keypoints[..., 2:], 0.0)], 2)
