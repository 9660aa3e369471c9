"""The record of a target: people known by 2-D keypoints, and by pictures where there are any.

Dimensions: N people, K joints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from posegen.body.joint_sets import JointSet
from posegen.body.joint_sets import joint_set as named
from posegen.errors import DataError
from posegen.target.lift.points import ESSENTIAL

MIN_SIDE_PX = 8.0
FARTHEST_PX = 1e6  # of a keypoint or a box: no picture is that large


@dataclass(frozen=True)
class Target:
    """N people of the target; never any 3-D.

    Args:
        joint_set: of the keypoints.
        keypoints: (N,K,3) float32: x, y in pixels of the picture, confidence in [0,1]. NaN where still to be detected.
        names: (N,) unique; begins with the picture's name.
        pictures: (N,) paths, or empty where keypoints are all there is.
        boxes: (N,4) x, y, width, height px of people in their pictures, or None.
        sequences, frames: (N,) which recording a person belongs to ("" is none) and when; people of one recording are
            one person over time.
        left_out: how many people were left out so far, and why.
        turned: whether pixels are those of the pictures as viewers show them, turned by their EXIF orientation; boxes
            and keypoints of a user are in stored pixels, unless the sizes that come with them say otherwise.
        sizes: (N,2) width and height of the people's pictures, px, where the keypoints' file tells them, else 0.
    """

    joint_set: str
    keypoints: NDArray[np.float32]
    names: tuple[str, ...]
    pictures: tuple[str, ...] = ()
    boxes: NDArray[np.float64] | None = None
    sequences: tuple[str, ...] = ()
    frames: NDArray[np.int64] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    turned: bool = False
    sizes: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        n, k = len(self.names), len(self.names_of_joints)
        if self.keypoints.shape != (n, k, 3):
            raise DataError(
                f"keypoints of shape {self.keypoints.shape} for {n} people and the {k} joints of {self.joint_set}",
                where="target.joint_set",
            )
        for what, values in (("pictures", self.pictures), ("sequences", self.sequences)):
            if values and len(values) != n:
                raise DataError(f"{len(values)} {what} for {n} people", where="target")
        far = (np.abs(self.keypoints[..., :2]) > FARTHEST_PX).any((1, 2))  # NaN, of joints that nobody saw, is not
        if self.boxes is not None and len(self.boxes) == n:
            far |= (np.abs(self.boxes) > FARTHEST_PX).any(1)
        if far.any():
            raise DataError(
                f"a keypoint or box of {int(far.sum())} of {n} people lies more than {FARTHEST_PX:g} px away, where no "
                f"picture is", where=f"target: {self.names[int(far.argmax())]}",
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.names)

    @property
    def names_of_joints(self) -> JointSet:
        return named(self.joint_set)

    @property
    def detected(self) -> bool:
        """Whether the keypoints are known."""
        return not bool(np.isnan(self.keypoints).all()) if len(self) else True

    def pick(self, rows: NDArray) -> Target:
        """The people of some rows (indices or a mask)."""
        indices = np.arange(len(self))[rows].tolist()
        return replace(
            self,
            keypoints=self.keypoints[indices],
            names=tuple(self.names[i] for i in indices),
            pictures=tuple(self.pictures[i] for i in indices) if self.pictures else (),
            boxes=None if self.boxes is None else self.boxes[indices],
            sequences=tuple(self.sequences[i] for i in indices) if self.sequences else (),
            frames=None if self.frames is None else self.frames[indices],
            sizes=None if self.sizes is None else self.sizes[indices],
        )

    def digest(self) -> str:
        """Twelve characters that change with the people and their keypoints."""
        sha = hashlib.sha256(self.joint_set.encode())
        sha.update("\n".join(self.names).encode())
        sha.update(np.ascontiguousarray(self.keypoints).tobytes())
        if self.boxes is not None:
            sha.update(np.ascontiguousarray(self.boxes).tobytes())
        return sha.hexdigest()[:12]


def usable(target: Target, min_confidence: float, min_joints: int) -> Target:
    """The people who can be lifted: enough joints seen, finite, of some size. What is left out is counted.

    Raises DataError when nobody is left, with the reasons.
    """
    points = target.keypoints.astype(np.float32).copy()
    confidence = points[..., 2]
    finite = np.isfinite(points).all(-1)
    seen = finite & (confidence >= min_confidence) & (confidence > 0)
    points[~seen] = 0.0
    limbs = [i for i, joint in enumerate(target.names_of_joints.joints) if joint in ESSENTIAL]
    if len(limbs) < min_joints:
        raise DataError(
            f"joint set {target.joint_set} has {len(limbs)} joints of arms and legs, fewer than target.min_joints",
            where="target.joint_set", choices=ESSENTIAL,
        )  # fmt: skip
    enough = seen[:, limbs].sum(1) >= min_joints
    _, side = boxes_of(points)
    large = side >= MIN_SIDE_PX
    reasons = {
        f"fewer than {min_joints} joints of arms and legs above confidence {min_confidence:g}": int((~enough).sum()),
        f"keypoints within {MIN_SIDE_PX:g} px": int((enough & ~large).sum()),
    }
    left_out = dict(target.left_out)
    for reason, count in reasons.items():
        if count:
            left_out[reason] = left_out.get(reason, 0) + count
    keep = enough & large
    if not keep.any():
        told = "; ".join(f"{count}: {reason}" for reason, count in left_out.items()) or "the files hold no person"
        raise DataError(
            f"the target has nobody to lift ({told})",
            where="target",
            next_command="check target.joint_set and the confidences, or lower target.min_confidence or min_joints",
        )
    return replace(replace(target, keypoints=points).pick(keep), left_out=left_out)


def boxes_of(keypoints: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre (N,2) and side (N,) px of the square around the keypoints that are seen; side 0 where none is."""
    seen = keypoints[..., 2:] > 0
    low = np.where(seen, keypoints[..., :2], np.inf).min(1, initial=np.inf)
    high = np.where(seen, keypoints[..., :2], -np.inf).max(1, initial=-np.inf)
    some = np.asarray(seen[..., 0].any(1))
    low, high = np.where(some[:, None], low, 0.0), np.where(some[:, None], high, 0.0)
    return ((low + high) / 2).astype(np.float64), (high - low).max(1).astype(np.float64)
