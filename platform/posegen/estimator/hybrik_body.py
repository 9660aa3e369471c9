"""The SMPL layer inside HybrIK's checkpoints: a body with five leaf points, under the original's buffer names."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from smplx.lbs import batch_rigid_transform
from torch import Tensor, nn

from posegen.body.joint_sets import H36M17, SMPL_PARENTS
from posegen.body.model import BodyModel, skin
from posegen.body.smpl_files import named_rows
from posegen.errors import CheckpointError
from posegen.estimator.hybrik_ik import CHILDREN, LEAF_VERTICES, PARENTS

SMPL_VERTICES = 6890


class HybrikBody(nn.Module):
    """Buffers named as in HybrIK hybrik/models/layers/smpl/SMPL.py.

    Args:
        vertices, faces: how many.
        leaf_vertices: of the head's top, the left and right middle finger's and big toe's tip.
    """

    faces_tensor: Tensor
    v_template: Tensor
    shapedirs: Tensor
    posedirs: Tensor
    J_regressor: Tensor
    J_regressor_h36m: Tensor
    lbs_weights: Tensor

    def __init__(self, vertices: int, faces: int, leaf_vertices: tuple[int, ...] = LEAF_VERTICES) -> None:
        super().__init__()
        self.leaf_vertices = list(leaf_vertices)
        self.register_buffer("faces_tensor", torch.zeros(faces, 3, dtype=torch.long))
        self.register_buffer("v_template", torch.zeros(vertices, 3))
        self.register_buffer("shapedirs", torch.zeros(vertices, 3, 10))
        self.register_buffer("posedirs", torch.zeros(207, vertices * 3))
        self.register_buffer("J_regressor", torch.zeros(24, vertices))
        self.register_buffer("J_regressor_h36m", torch.zeros(17, vertices))
        self.register_buffer("children_map", torch.tensor(CHILDREN))
        self.register_buffer("parents", torch.tensor(PARENTS))
        self.register_buffer("lbs_weights", torch.zeros(vertices, 24))

    @staticmethod
    def like_state(state: Mapping[str, Tensor], where: object = None) -> HybrikBody:
        """An empty body of the size found in a checkpoint (keys smpl.*)."""
        template, faces = state.get("smpl.v_template"), state.get("smpl.faces_tensor")
        if template is None or faces is None:
            raise CheckpointError(
                "the checkpoint has no SMPL buffers (smpl.v_template, smpl.faces_tensor): not HybrIK's", where=where
            )
        if template.ndim != 2 or faces.ndim != 2:
            raise CheckpointError(
                f"the checkpoint's body has vertices {tuple(template.shape)} and faces {tuple(faces.shape)}, "
                f"expected ({SMPL_VERTICES}, 3) and (F, 3)",
                where=where,
            )
        if len(template) != SMPL_VERTICES:
            raise CheckpointError(
                f"the checkpoint's body has {len(template)} vertices, SMPL's has {SMPL_VERTICES}", where=where
            )
        return HybrikBody(len(template), len(faces))

    @staticmethod
    def of_body(body: BodyModel) -> HybrikBody:
        """From a body model; its h36m17 regressor is zero where it has none. Bodies of other topologies than SMPL's
        get their leaves by geometry."""
        vertices = len(body.v_template)
        leaves = LEAF_VERTICES if vertices == SMPL_VERTICES else extreme_vertices(body.v_template, body.weights)
        found = HybrikBody(vertices, len(body.faces), leaves)
        found.faces_tensor.copy_(body.faces)
        found.v_template.copy_(body.v_template)
        found.shapedirs.copy_(body.shapedirs)
        if len(body.posedirs):
            found.posedirs.copy_(body.posedirs)
        found.J_regressor.copy_(body.J_regressor)
        if H36M17.name in body.regressors:
            found.J_regressor_h36m.copy_(body.regressors[H36M17.name])
        found.lbs_weights.copy_(body.weights)
        return found

    def h36m_rows(self) -> list[int]:
        """The rows of J_regressor_h36m in the order of the joint set h36m17: HybrIK's have the left leg first."""
        return named_rows(self.J_regressor_h36m.cpu().numpy(), self.v_template.cpu().numpy())

    def as_body(self) -> BodyModel:
        """The same body for evaluation; with the Human3.6M regressor where it has one."""
        arrays = {key: value.detach().cpu().numpy() for key, value in self.named_buffers()}
        h36m = arrays["J_regressor_h36m"]
        return BodyModel(
            arrays["v_template"],
            arrays["shapedirs"],
            arrays["J_regressor"],
            arrays["lbs_weights"],
            arrays["faces_tensor"],
            posedirs=arrays["posedirs"].T.reshape(len(arrays["v_template"]), 3, -1),
            regressors={H36M17.name: h36m[self.h36m_rows()]} if h36m.any() else None,
            name="HybrIK's checkpoint",
        )

    def rest_joints(self, betas: Tensor) -> tuple[Tensor, Tensor]:
        """betas (B,10) -> the shaped rest vertices (B,V,3) and the 29 rest joints (B,29,3), m."""
        shaped = self.v_template + torch.einsum("bk,vck->bvc", betas, self.shapedirs)
        # Operands in the original's order: another one rounds rest joints by 4e-7 m, and a foot's rotation by 1e-5.
        joints = torch.einsum("bvc,jv->bjc", shaped, self.J_regressor)
        return shaped, torch.cat([joints, shaped[:, self.leaf_vertices]], 1)

    def pose(self, rotations: Tensor, shaped: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """rotations (B,24,3,3), and what rest_joints gave -> posed vertices (B,V,3), joints (B,24,3), m."""
        parents = torch.tensor(SMPL_PARENTS, device=rest.device)
        joints, transforms = batch_rigid_transform(rotations, rest[:, :24], parents, dtype=rest.dtype)
        feature = (rotations[:, 1:] - torch.eye(3, dtype=rest.dtype, device=rest.device)).flatten(1)
        shaped = shaped + (feature @ self.posedirs).view_as(shaped)
        return skin(shaped, self.lbs_weights, transforms), joints


def extreme_vertices(template_m: Tensor, weights: Tensor) -> tuple[int, ...]:
    """Stand-ins for the five leaf vertices on another topology: of the vertices that head, hands and feet move most,
    the highest, the outermost and the foremost."""
    owner = weights.argmax(1)

    def furthest(joint: int, axis: int, sign: float) -> int:
        mine = torch.nonzero(owner == joint).flatten()
        if not len(mine):
            mine = torch.arange(len(template_m))
        return int(mine[(template_m[mine, axis] * sign).argmax()])

    return (furthest(15, 1, 1), furthest(22, 0, 1), furthest(23, 0, -1), furthest(10, 2, 1), furthest(11, 2, 1))
