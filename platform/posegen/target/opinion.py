"""A second opinion on hypotheses: those near to what an estimator sees in the picture count more.

Keypoints leave open what is in front and what is behind; an estimator that sees the picture has a notion of it. Worth
it where the estimator errs little more than the hypotheses differ: with BlazePose, 160 mm on validation, the one in
front improves from 86 to 80 mm; an estimator that errs by 390 mm brings nothing.

Dimensions: N people, C joints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24, joint_set
from posegen.body.model import BodyModel
from posegen.config import PosegenConfig
from posegen.errors import ConfigError
from posegen.estimator.config import EstimatorConfig
from posegen.estimator.configured import build_estimator
from posegen.estimator.crop import crop_of
from posegen.estimator.preprocess import to_float
from posegen.target.crops import TargetCrops, check_pictures
from posegen.target.lift.sequence import agreed
from posegen.target.lifted import Lifted
from posegen.target.parts import identity, part_path, read_part, write_part
from posegen.target.people import People
from posegen.target.record import Target

BATCH = 32
CHUNK = 256  # people whose joints are kept, if stopped, together
HIPS = ("left_hip", "right_hip")


class Opinion:
    """What `target.agree_with` asks for. Made before anything is lifted, so that what it lacks is said at once.

    Args:
        config: names the estimator.
        target: whose people it is asked about.

    Raises:
        ConfigError: there is no such estimator, or it tells no hips.
        DataError: the target has no pictures.
    """

    def __init__(self, config: PosegenConfig, target: Target) -> None:
        settings = config.target
        self.name, self.scale_m, self.estimator = settings.agree_with, settings.agree_mm / 1000, None
        if self.name is None:
            return
        check_pictures(target)
        self.estimator = build_estimator(replace(config, estimator=EstimatorConfig(name=self.name)))
        names = joint_set(self.estimator.joint_set)
        if not set(HIPS) <= set(names.joints):
            raise ConfigError(f"an estimator of {names.name} tells no hips to centre on", where="target.agree_with")

    def __call__(
        self, lifted: Lifted, people: People, body: BodyModel, folder: Path, tell: Callable[[str, int, int], None]
    ) -> Lifted:
        """The lifted people, weighed; as they are where nobody is asked.

        Args:
            people: of the same rows, with pictures.
            folder: for what is done so far, see `seen_by`.
            tell: what is done, how many are, of how many.
        """
        if self.estimator is None:
            return lifted
        seen = seen_by(self.estimator, people, folder, partial(tell, f"asking {self.name}"))
        return second_opinion(lifted, seen, self.estimator.joint_set, body, self.scale_m)


@torch.no_grad()
def seen_by(
    estimator: Any, people: People, folder: Path, tell: Callable[[int, int], None] = lambda done, total: None
) -> Tensor:
    """The joints (N,J,3) m that an estimator sees in people's pictures, in the axes of the untilted picture's camera;
    NaN for a picture that cannot be read.

    Args:
        folder: for what is done so far, by the estimator's name and the pictures.
        tell: how many are done, of how many.
    """
    target, crop = people.target, crop_of(estimator)
    crops = TargetCrops(people, crop, keep_mb=0)
    parts = []
    for start in range(0, len(people), CHUNK):
        rows = slice(start, min(start + CHUNK, len(people)))
        pictures = (identity(picture) for picture in target.pictures[rows])
        path = part_path(folder, ("seen by", estimator.name, str(crop), *pictures), target.keypoints[rows])
        found = read_part(path, ("joints",))
        if found is None:
            found = {"joints": _seen(estimator, crops, rows).numpy()}
            write_part(path, found)
        parts.append(found["joints"])
        tell(rows.stop, len(people))
    return torch.from_numpy(np.concatenate(parts))


def _seen(estimator: Any, crops: TargetCrops, rows: slice) -> Tensor:
    joints = []
    for start in range(rows.start, rows.stop, BATCH):
        numbers = list(range(start, min(start + BATCH, rows.stop)))
        seen = estimator(to_float(crops.rows(numbers).images)).joints.cpu()
        seen[[number in crops.unreadable for number in numbers]] = torch.nan
        joints.append(crops.turned_back(seen, torch.tensor(numbers)))
    return torch.cat(joints)


def second_opinion(lifted: Lifted, seen_m: Tensor, names: str, body: BodyModel, scale_m: float) -> Lifted:
    """The same hypotheses, weighed by how near they are to an estimator's joints too; people without those stay.

    Args:
        seen_m: (N,J,3) of the same people, see `seen_by`.
        names: the joint set of the estimator; it has HIPS.
        scale_m: mean distance at which a hypothesis loses one unit of log weight.
    """
    own = joint_set(names)
    in_smpl, in_own = SMPL24.common(own)
    told = seen_m - seen_m[:, [own.index(hip) for hip in HIPS]].mean(1, keepdim=True)
    return replace(lifted, hypotheses=agreed(lifted.hypotheses, told[:, in_own], in_smpl, body, scale_m))
