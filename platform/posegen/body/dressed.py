"""A dressed person: a mesh with clothes that is bound to the body's skeleton and betas."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from smplx.lbs import batch_rigid_transform
from torch import Tensor

from posegen.body.joint_sets import SMPL_PARENTS
from posegen.body.model import skin
from posegen.body.rotations import aa_to_matrix


@dataclass(frozen=True)
class DressedSubject:
    """A coloured mesh in SMPL's zero pose. Metres.

    Args:
        name: unique among subjects.
        template: (V,3); shapedirs: (V,3,10), the free body's betas; weights: (V,24); faces: (F,3) int64.
        albedo: (V,3) in [0,1], the colour of each vertex.
        rest_template: (24,3) joints at zero betas; rest_directions: (24,3,10) their change with the betas.
    """

    name: str
    template: Tensor
    shapedirs: Tensor
    weights: Tensor
    faces: Tensor
    albedo: Tensor
    rest_template: Tensor
    rest_directions: Tensor

    def posed(self, pose: Tensor, betas: Tensor, transl: Tensor | None = None) -> Tensor:
        """Vertices (B,V,3) m, world.

        Args:
            pose: axis-angle (B,24,3) rad or matrices (B,24,3,3); betas: (B,10); transl: (B,3) m.
        """
        rotations = aa_to_matrix(pose) if pose.ndim == 3 else pose
        joints = self.rest_template + torch.einsum("bk,jck->bjc", betas, self.rest_directions)
        _, transforms = batch_rigid_transform(rotations, joints, torch.tensor(SMPL_PARENTS), dtype=joints.dtype)
        shaped = self.template + torch.einsum("bk,vck->bvc", betas, self.shapedirs)
        vertices = skin(shaped, self.weights, transforms)
        return vertices if transl is None else vertices + transl[:, None]
