"""Where the named points of 2-D joint sets lie on the body.

Most are SMPL joints of the same meaning. Detectors also tell points of the face and the feet: those are fixed in the
frame of the head or the foot, and found on the rest body's own mesh, so that any body in SMPL's format will do.

Dimensions: M points, Q = 24 joints and what is fixed to them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24, SMPL_PARENTS, JointSet
from posegen.body.model import BodyModel
from posegen.errors import DataError

# Points of other names that are SMPL joints, or means of them, up to a few centimetres.
MEANS: dict[str, tuple[str, ...]] = {
    "thorax": ("neck",),
    "mid_hip": ("left_hip", "right_hip"),
    "left_foot_index": ("left_foot",),
    "right_foot_index": ("right_foot",),
    "left_big_toe": ("left_foot",),
    "right_big_toe": ("right_foot",),
}
# Of each SMPL joint or derived point, how far a detector's point of that name may lie from ours, m. Hips of pictures
# are on the skin, those of the body inside of it.
TOLERANCE_M = {"left_hip": 0.04, "right_hip": 0.04, "pelvis": 0.04, "mid_hip": 0.03, "thorax": 0.05, "nose": 0.03}
DEFAULT_TOLERANCE_M = 0.02
LIMB_TOLERANCE_M = 0.012
# Fewer of these than four, and a picture says too little of a pose.
ESSENTIAL = (
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
    "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip


@dataclass(frozen=True)
class BodyPoints:
    """The points of a joint set that the body has.

    Args:
        names: of the M points.
        columns: (M,) which joints of the 2-D set they are.
        joint: (M,Q) weights of joints and fixed points.
        moved: (M,24,Q) the same, but only what turns with joint j: joint * ancestor.
        anchors: (F,) joints that the fixed points are fixed to; offsets (F,3) m in their frames.
        tolerance_m: (M,) standard deviation of a detector's point about ours.
    """

    names: tuple[str, ...]
    columns: Tensor
    joint: Tensor
    moved: Tensor
    anchors: Tensor
    offsets_m: Tensor
    tolerance_m: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def of(self, positions_m: Tensor, rotations: Tensor) -> Tensor:
        """Joint positions (B,24,3) and global rotations (B,24,3,3) -> everything that points are made of (B,Q,3)."""
        turned = (rotations[:, self.anchors] @ self.offsets_m[..., None])[..., 0]
        return torch.cat([positions_m, positions_m[:, self.anchors] + turned], 1)


def body_points(names: JointSet, body: BodyModel) -> BodyPoints:
    """The points of a 2-D joint set on a body. Raises DataError when fewer than four limb joints are among them."""
    fixed = face_points(body)
    fixed_names = list(fixed)
    chosen, rows = [], []
    for name in names.joints:
        row = torch.zeros(24 + len(fixed_names))
        parts = (name,) if name in SMPL24.joints else MEANS.get(name, ())
        if parts:
            for part in parts:
                row[SMPL24.index(part)] = 1 / len(parts)
        elif name in fixed:
            row[24 + fixed_names.index(name)] = 1.0
        else:
            continue
        chosen.append(name)
        rows.append(row)
    if sum(name in ESSENTIAL for name in chosen) < 4:
        raise DataError(
            f"the joint set {names.name} has too few joints of arms and legs to lift: {', '.join(chosen) or 'none'}",
            where="target.joint_set",
            choices=ESSENTIAL,
        )
    joint = torch.stack(rows)
    anchors = torch.tensor([SMPL24.index("head")] * len(fixed_names))
    turns = _turns_with(anchors.tolist())  # (Q,24)
    tolerance = [
        TOLERANCE_M.get(name, LIMB_TOLERANCE_M if name in ESSENTIAL else DEFAULT_TOLERANCE_M) for name in chosen
    ]
    return BodyPoints(
        tuple(chosen),
        torch.tensor([names.index(name) for name in chosen]),
        joint,
        joint[:, None] * turns.T[None],
        anchors,
        torch.stack(list(fixed.values())),
        torch.tensor(tolerance),
    )


def _turns_with(anchors: list[int]) -> Tensor:
    """(Q,24): 1 where a joint or fixed point moves when joint j turns in place."""
    turns = torch.zeros(24 + len(anchors), 24)
    for joint in range(1, 24):
        parent = SMPL_PARENTS[joint]
        turns[joint] = turns[parent]
        turns[joint, parent] = 1
    for index, anchor in enumerate(anchors):
        turns[24 + index] = turns[anchor]
        turns[24 + index, anchor] = 1
    return turns


def face_points(body: BodyModel) -> dict[str, Tensor]:
    """Nose, eyes, ears and top of the head (3,) m from the head joint in its rest frame, off the rest mesh.

    The nose is the head's foremost vertex near the mid-line, the ears are its sides at the nose's height, the eyes
    lie a fifth of the face above the nose. Means of the joint sets' own annotations differ by a centimetre or two.
    """
    head = SMPL24.index("head")
    skin = body.v_template[body.weights[:, head] > 0.5] - body.rest_template[head]
    if len(skin) == 0:
        raise DataError("no vertex of the body follows the head joint", where=body.name)
    middle = skin[skin[:, 0].abs() < 0.03]
    nose = middle[middle[:, 2].argmax()].clone()
    nose[0] = 0.0
    top = skin[skin[:, 1].argmax()].clone()
    top[0] = 0.0
    rise = 0.2 * (top[1] - nose[1])
    level = skin[(skin[:, 1] - nose[1] - rise / 2).abs() < 0.04]
    ear = level[level[:, 0].argmax()].clone()
    eye = torch.stack([0.42 * ear[0], nose[1] + rise, nose[2] - 0.02])
    flip = torch.tensor([-1.0, 1.0, 1.0])
    return {
        "nose": nose, "face_nose": nose, "head_top": top, "lsp_head_top": top, "left_ear": ear, "right_ear": ear * flip,
        "left_eye": eye, "right_eye": eye * flip,
    }  # fmt: skip
