"""A body's rest joints as a linear function of its shape, and what the labels of one body mean for another.

Two bodies in SMPL's format share the joints' names and their order, not their places: the pelvis of one lies some
centimetres from that of the other, and a beta of one is no beta of the other. Their long bones point nearly the same
way in the rest pose, so that rotations carry over once the difference is turned away.

Dimensions: B batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from posegen.body.joint_sets import SMPL24, SMPL_PARENTS
from posegen.body.kinematics import forward_kinematics
from posegen.scene import TellsBody

if TYPE_CHECKING:
    from posegen.config import PosegenConfig

SHAPES = 10
SAME_M = 2e-3  # joints of one body, whose numbers may have been stored as half floats
# Rest bones further apart than this are of another rest pose: an A pose, another axis up.
MAX_TURN_RAD = 0.52
# The bones whose direction is the pose of their first joint. Those of the trunk, the hands and the feet are short, and
# their direction says where a rig places its joints.
LONG_BONES = tuple(
    (SMPL24.index(f"{side}_{joint}"), SMPL24.index(f"{side}_{child}"))
    for side in ("left", "right")
    for joint, child in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
)
# Lines that must agree too, though nothing is turned after them: up and to the left.
AXES = ((SMPL24.index("pelvis"), SMPL24.index("neck")), (SMPL24.index("right_hip"), SMPL24.index("left_hip")))


class Skeleton(nn.Module):
    """The body's rest joints as a linear function of its shape: all that joints need, without the mesh."""

    template: Tensor  # (24,3) m
    shapedirs: Tensor  # (24,3,10) m

    def __init__(self, template_m: Tensor | None = None, shapedirs_m: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("template", torch.zeros(24, 3) if template_m is None else template_m.clone())
        self.register_buffer("shapedirs", torch.zeros(24, 3, SHAPES) if shapedirs_m is None else shapedirs_m.clone())

    @staticmethod
    def of_body(body: Any) -> Skeleton:
        """From anything with SMPL's buffers v_template (V,3), shapedirs (V,3,10) and J_regressor (24,V)."""
        regressor = body.J_regressor.to(torch.float64)
        template = regressor @ body.v_template.to(torch.float64)
        directions = torch.einsum("jv,vck->jck", regressor, body.shapedirs[..., :SHAPES].to(torch.float64))
        return Skeleton(template.float(), directions.float())

    def forward(self, rotations: Tensor, betas: Tensor) -> Tensor:
        """rotations (B,24,3,3), betas (B,10) -> joints (B,24,3) m, the pelvis at the origin."""
        rest = self.template + torch.einsum("jck,bk->bjc", self.shapedirs, betas)
        return SMPL24.centred(forward_kinematics(rotations, rest)[1])

    def same_as(self, other: Skeleton) -> bool:
        """Whether both are of one body, so that betas and joints of the one are those of the other."""
        shift = SMPL24.centred(self.template) - SMPL24.centred(other.template).to(self.template)
        bend = (self.shapedirs - other.shapedirs.to(self.shapedirs)).permute(2, 0, 1)  # m for one unit of each beta
        return bool(shift.norm(dim=-1).max() < SAME_M and SMPL24.centred(bend).norm(dim=-1).max() < SAME_M)


def rest_turns(source: Skeleton, target: Skeleton) -> Tensor | None:
    """How each joint's world rotation for `source` becomes that for `target`: (24,3,3), G_target = G_source @ turn.

    Long bones of the target then point where the source's do; the other joints keep their orientation. None where the
    rest poses are too different for that: rotations of the one then say nothing of the other. The mean shapes are
    compared; betas move the directions by less than this matters.
    """
    rest, other = (SMPL24.centred(body.template.detach().double().cpu()) for body in (source, target))
    for start, end in (*LONG_BONES, *AXES):
        cosine = torch.nn.functional.cosine_similarity(rest[end] - rest[start], other[end] - other[start], dim=0)
        if torch.acos(cosine.clamp(-1, 1)) > MAX_TURN_RAD:
            return None
    turns = torch.eye(3, dtype=torch.float64).repeat(24, 1, 1)
    for start, end in LONG_BONES:
        turns[start] = _smallest_turn(other[end] - other[start], rest[end] - rest[start])
    return turns.float()


def _smallest_turn(start: Tensor, end: Tensor) -> Tensor:
    """The smallest rotation (3,3) from one direction to another, not opposite one (Rodrigues' formula)."""
    a, b = start / start.norm(), end / end.norm()
    v = torch.linalg.cross(a, b)
    zero = torch.zeros((), dtype=a.dtype)
    k = torch.stack([zero, -v[2], v[1], v[2], zero, -v[0], -v[1], v[0], zero]).view(3, 3)
    return torch.eye(3, dtype=a.dtype) + k + k @ k / (1 + a @ b)


def carried_over(rotations: Tensor, turns: Tensor) -> Tensor:
    """Rotations relative to the parents (B,24,3,3) of one body as those of another, by `rest_turns`.

    With G = G_parent @ R in both: R_target = turn_parent^T @ R_source @ turn.
    """
    turns = turns.to(rotations)
    parents = torch.cat([torch.eye(3).to(turns)[None], turns[list(SMPL_PARENTS[1:])]])
    return parents.mT @ rotations @ turns


def skeleton_of(estimator: Any) -> Skeleton | None:
    """The skeleton of the body whose rotations and betas an estimator predicts; None where it does not tell."""
    if not isinstance(estimator, TellsBody):
        return None
    return estimator.skeleton if isinstance(estimator.skeleton, Skeleton) else None


def scene_skeleton(config: PosegenConfig) -> Skeleton:
    """The skeleton that scenes and their labels ride on: of `body.path`, or the free body's."""
    from posegen.body.model import load_body

    return Skeleton.of_body(load_body(config.body.path, resolution=config.body.resolution))


def free_skeleton() -> Skeleton:
    """The skeleton of the free body, which the embedded benchmarks and the source rows ride on."""
    from posegen.body.model import load_body

    return Skeleton.of_body(load_body(resolution="low"))
