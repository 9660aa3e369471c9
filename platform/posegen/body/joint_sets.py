"""Named joint sets, so that no number is ever compared between joints of other names.

Names are shared between sets: joints with one name are comparable in meaning. `SMPL24`'s hips, for instance, lie
inside the body, while `COCO17`'s are the annotators' hips: both are called `left_hip`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from posegen.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class JointSet:
    """An ordered list of joint names with its root and the edges of its skeleton."""

    name: str
    joints: tuple[str, ...]
    root: tuple[str, ...]  # the root is the mean of these joints
    edges: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        try:
            return self.joints.index(joint)
        except ValueError:
            raise ConfigError(f"joint set {self.name} has no joint {joint!r}", choices=self.joints) from None

    @cached_property
    def root_indices(self) -> tuple[int, ...]:
        return tuple(self.index(joint) for joint in self.root)

    @cached_property
    def edge_indices(self) -> tuple[tuple[int, int], ...]:
        return tuple((self.index(a), self.index(b)) for a, b in self.edges)

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """For each joint the index of its left-right counterpart (itself on the mid-line)."""

        def other(joint: str) -> str:
            if "left_" in joint:
                return joint.replace("left_", "right_")
            return joint.replace("right_", "left_")

        return tuple(self.index(other(joint)) for joint in self.joints)

    def root_of(self, joints: Tensor) -> Tensor:
        """(...,J,D) -> (...,1,D)."""
        return joints[..., list(self.root_indices), :].mean(-2, keepdim=True)

    def centred(self, joints: Tensor) -> Tensor:
        """Joints (...,J,D) minus their root."""
        return joints - self.root_of(joints)

    def common(self, other: JointSet) -> tuple[list[int], list[int]]:
        """Indices into this set and into the other of the joints that both have, in this set's order."""
        pairs = [(i, other.joints.index(j)) for i, j in enumerate(self.joints) if j in other.joints]
        return [a for a, _ in pairs], [b for _, b in pairs]


def _chain(*joints: str) -> tuple[tuple[str, str], ...]:
    return tuple(itertools.pairwise(joints))


SMPL24 = JointSet(
    "smpl24",
    (
        "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle",
        "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hand", "right_hand",
    ),
    ("pelvis",),
    _chain("pelvis", "left_hip", "left_knee", "left_ankle", "left_foot")
    + _chain("pelvis", "right_hip", "right_knee", "right_ankle", "right_foot")
    + _chain("pelvis", "spine1", "spine2", "spine3", "neck", "head")
    + _chain("spine3", "left_collar", "left_shoulder", "left_elbow", "left_wrist", "left_hand")
    + _chain("spine3", "right_collar", "right_shoulder", "right_elbow", "right_wrist", "right_hand"),
)  # fmt: skip

# SMPL-X's body joints: SMPL's without the hands.
SMPLX_BODY22 = JointSet(
    "smplx_body22",
    SMPL24.joints[:22],
    ("pelvis",),
    tuple(edge for edge in SMPL24.edges if not edge[1].endswith("_hand")),
)

SMPL_PARENTS: tuple[int, ...] = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21,
)  # fmt: skip

_LIMBS = (
    _chain("left_hip", "left_knee", "left_ankle")
    + _chain("right_hip", "right_knee", "right_ankle")
    + _chain("left_shoulder", "left_elbow", "left_wrist")
    + _chain("right_shoulder", "right_elbow", "right_wrist")
)

# Human3.6M joints in Human3.6M's order, right leg first (SPIN's regressor file has the left leg first: it is reordered
# when it is read, see posegen.body.smpl_files.in_named_order).
H36M17 = JointSet(
    "h36m17",
    (
        "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine",
        "thorax", "nose", "head_top", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder",
        "right_elbow", "right_wrist",
    ),
    ("pelvis",),
    _LIMBS + _chain("pelvis", "spine", "thorax", "nose", "head_top"),
)  # fmt: skip

# The 12 limb joints that every estimator and every body has.
LIMBS12 = JointSet(
    "limbs12",
    (
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist",
        "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    ),
    ("left_hip", "right_hip"),
    _LIMBS,
)  # fmt: skip

# LSP's 14 joints, SPIN's J14: right ankle .. left wrist, neck, head top.
LSP14 = JointSet(
    "lsp14",
    LIMBS12.joints + ("thorax", "head_top"),
    ("left_hip", "right_hip"),
    _LIMBS + _chain("thorax", "head_top"),
)

# BlazePose GHUM's 33 landmarks.
BLAZEPOSE33 = JointSet(
    "blazepose33",
    (
        "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye",
        "right_eye_outer", "left_ear", "right_ear", "left_mouth", "right_mouth", "left_shoulder",
        "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky",
        "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb", "left_hip", "right_hip",
        "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel", "right_heel", "left_foot_index",
        "right_foot_index",
    ),
    ("left_hip", "right_hip"),
    _LIMBS + _chain("left_shoulder", "right_shoulder") + _chain("left_hip", "right_hip"),
)  # fmt: skip

COCO17 = JointSet(
    "coco17",
    (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
        "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
        "right_knee", "left_ankle", "right_ankle",
    ),
    ("left_hip", "right_hip"),
    _LIMBS,
)  # fmt: skip

# MPI-INF-3DHP's 17 test joints. Its neck and head are called by the Human3.6M joints that SPIN compares them with.
MPI_INF_3DHP17 = JointSet(
    "mpi_inf_3dhp17",
    (
        "head_top", "thorax", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
        "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "pelvis",
        "spine", "nose",
    ),
    ("pelvis",),
    _LIMBS + _chain("pelvis", "spine", "thorax", "nose", "head_top"),
)  # fmt: skip

# Its 28 training joints. The inner spine joints have no counterpart of the same name in SMPL, hence the prefix.
MPI_INF_3DHP28 = JointSet(
    "mpi_inf_3dhp28",
    (
        "mpi_spine3", "mpi_spine4", "mpi_spine2", "spine", "pelvis", "thorax", "nose", "head_top",
        "left_clavicle", "left_shoulder", "left_elbow", "left_wrist", "left_hand", "right_clavicle",
        "right_shoulder", "right_elbow", "right_wrist", "right_hand", "left_hip", "left_knee", "left_ankle",
        "left_foot", "left_toe", "right_hip", "right_knee", "right_ankle", "right_foot", "right_toe",
    ),
    ("pelvis",),
    _LIMBS + _chain("pelvis", "spine", "thorax", "nose", "head_top"),
)  # fmt: skip

# SPIN's superset of 24 annotated joints (`S`, `part`), named by what J24_TO_J17 compares them with.
SPIN24 = JointSet(
    "spin24",
    LIMBS12.joints
    + (
        "thorax", "lsp_head_top", "pelvis", "mpii_thorax", "spine", "nose", "head_top", "face_nose", "left_eye",
        "right_eye", "left_ear", "right_ear",
    ),
    ("pelvis",),
    _LIMBS + _chain("pelvis", "spine", "thorax", "nose", "head_top"),
)  # fmt: skip

# The first 19 of them: HMR 2.0's `extra_keypoints`.
HMR2_EXTRA19 = JointSet("hmr2_extra19", SPIN24.joints[:19], ("pelvis",), SPIN24.edges)

# 3DPW's `poses2d`: OpenPose's COCO order.
COCO18 = JointSet(
    "coco18",
    (
        "nose", "thorax", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
        "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "right_eye", "left_eye", "right_ear", "left_ear",
    ),
    ("left_hip", "right_hip"),
    _LIMBS,
)  # fmt: skip

# OpenPose's BODY_25 (`pose_keypoints_2d` of its JSON files, `openpose` of SPIN's npz files).
OPENPOSE25 = JointSet(
    "openpose25",
    (
        "nose", "thorax", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
        "left_wrist", "mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel",
        "right_big_toe", "right_small_toe", "right_heel",
    ),
    ("mid_hip",),
    _LIMBS + _chain("mid_hip", "thorax", "nose"),
)  # fmt: skip

JOINT_SETS: dict[str, JointSet] = {
    s.name: s
    for s in (
        SMPL24, SMPLX_BODY22, H36M17, LIMBS12, LSP14, BLAZEPOSE33, COCO17, COCO18, MPI_INF_3DHP17, MPI_INF_3DHP28,
        SPIN24, HMR2_EXTRA19, OPENPOSE25,
    )
}  # fmt: skip


def joint_set(name: str, where: object = None) -> JointSet:
    """The joint set called `name`. Raises ConfigError with the valid names, and `where` the name was found.

    Example:
        >>> from posegen import joint_set
        >>> coco = joint_set("coco17")
        >>> len(coco.joints), coco.index("left_knee")
        (17, 13)
    """
    if name not in JOINT_SETS:
        raise ConfigError(f"unknown joint set {name[:60]!r}", where=where, choices=JOINT_SETS)
    return JOINT_SETS[name]


def comparable(prediction: Tensor, predicted: JointSet, truth: Tensor, true: JointSet) -> tuple[Tensor, Tensor]:
    """The joints that two sets share, each centred on the same root.

    The root is the true set's when the predicted set has those joints, else the middle of the hips.

    Args:
        prediction: (B,J,3) in `predicted`'s order.
        truth: (B,K,3) in `true`'s order.

    Returns:
        two tensors (B,C,3) in the true set's order, C joints in common.
    """
    in_true, in_predicted = true.common(predicted)
    if not in_true:
        raise ConfigError(f"joint sets {predicted.name} and {true.name} share no joint", choices=JOINT_SETS)
    root = true.root if all(joint in predicted.joints for joint in true.root) else ("left_hip", "right_hip")
    p_root = prediction[..., [predicted.index(j) for j in root], :].mean(-2, keepdim=True)
    t_root = truth[..., [true.index(j) for j in root], :].mean(-2, keepdim=True)
    return prediction[..., in_predicted, :] - p_root, truth[..., in_true, :] - t_root


def mirrored(joints: Tensor, names: JointSet) -> Tensor:
    """Left-right mirror image of joints (...,J,3) about the plane x = 0."""
    sign = joints.new_tensor([-1.0, 1.0, 1.0])
    return joints[..., list(names.mirror), :] * sign
