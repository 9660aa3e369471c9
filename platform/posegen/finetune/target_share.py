"""A share of each batch is pictures of the target, taught by their 2-D keypoints, or also by who was lifted from them.

As usual in the field (HMR, SPIN): pictures without 3-D labels join the batch and weigh by their reprojection loss (see
posegen.estimator.weak_labels). With `target_labels=lifted` the joints of their lifted people count besides, a picture
as much as a rendered row. Which people a step shows is a function of the seed and the step; people who are held
out are never shown, and the guard watches the reprojection error on them.

Dimensions: B rows of this rank, K joints.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from posegen.body.joint_sets import joint_set
from posegen.body.model import BodyModel
from posegen.errors import ConfigError, DataError
from posegen.estimator.crop import crop_of
from posegen.estimator.weak_labels import MIN_COMMON, WeakRows, lifted_loss, reprojection_error, reprojection_loss
from posegen.finetune.config import FinetuneConfig
from posegen.finetune.lifted_labels import LiftedLabels
from posegen.parallel import Parallel
from posegen.scene import Prediction
from posegen.seeds import torch_generator
from posegen.target.crops import TargetCrops
from posegen.target.lifted import Lifted
from posegen.target.people import People


class TargetShare:
    """The target's part of a fine-tuning.

    Args:
        people: of the target, with pictures; those held out are measured, the others shown.
        settings: `target_share` of `batch` is shown.
        estimator: tells its crop and joints.
        seed: of the choice of people.
        lifted: those shown as they were lifted, and the body for that; None teaches by keypoints alone.
    """

    def __init__(
        self,
        people: People,
        settings: FinetuneConfig,
        estimator: Any,
        seed: int,
        parallel: Parallel,
        lifted: tuple[Lifted, BodyModel] | None = None,
    ) -> None:
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
        self.weight, self.weight_joints = settings.weight_target, settings.weight_joints
        self.crops = TargetCrops(people.shown, crop, settings.target_keep_mb)
        self.labels = LiftedLabels(lifted[0], self.crops, lifted[1]) if lifted else None
        held = people.kept_back
        count = min(len(held), settings.guard_rows)
        mine = list(range(parallel.rank, count, parallel.world_size))
        # a rank that holds nobody back still has rows, none: all ranks gather what they measured
        self.held = TargetCrops(held, crop, 0).rows(mine or [0])[: len(mine)] if count else None

    def rows(self, step: int) -> WeakRows:
        """Whom a step shows on this rank."""
        generator = torch_generator(self.seed, "finetune", "target", step)
        chosen = torch.randint(len(self.crops), (self.total,), generator=generator)
        mine = self.parallel.slice(chosen).tolist()
        rows = self.crops.rows(mine)
        return rows if self.labels is None else self.labels.join(rows, mine)

    def loss(self, prediction: Prediction, rows: WeakRows, labelled: int) -> Tensor:
        """The weighted loss of a prediction of B target rows.

        Args:
            rows: whose keypoints (B,K,3) are where the pictures that were predicted show them.
            labelled: rows with labels in the same batch, over whose number their loss is a mean.
        """
        loss = self.weight * reprojection_loss(prediction, rows.keypoints, self.names)
        if rows.lifted is None:
            return loss
        return loss + self.weight_joints * len(rows) / (labelled or len(rows)) * lifted_loss(prediction, rows)

    def error(self, prediction: Prediction, keypoints: Tensor) -> Tensor:
        """The reprojection error (B,) in thousandths of half a crop's side."""
        return 1000 * reprojection_error(prediction, keypoints, self.names)


def following(keypoints: Tensor, zoom: Tensor, shift: Tensor) -> Tensor:
    """Keypoints (B,K,3) of crops that were jittered (see posegen.estimator.augment.crop_jitter); what has left the
    picture is not seen more."""
    moved = (keypoints[..., :2] - 2 * shift[:, None]) * zoom[:, None, None]
    seen = (moved.abs() <= 1).all(-1, keepdim=True)
    return torch.cat([torch.where(seen, moved, 0.0), torch.where(seen, keypoints[..., 2:], 0.0)], 2)
