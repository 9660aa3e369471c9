"""A body's outline by few points: enough vertices to bound its projection in any pose, at a tenth of the cost of all.

Of each part that moves rigidly (the vertices that one joint moves most) the vertices furthest in directions all round
are kept: the extreme vertex of a posed body in any direction is extreme in its part.
"""

from __future__ import annotations

import math

import torch
from smplx.lbs import batch_rigid_transform, blend_shapes
from torch import Tensor

from posegen.body.model import BodyModel, skin

DIRECTIONS = 24


def sphere_directions(count: int) -> Tensor:
    """(count,3) unit vectors spread evenly (a Fibonacci lattice)."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    y = 1 - 2 * index / count
    angle = math.pi * (1 + 5**0.5) * index
    radius = (1 - y * y).sqrt()
    return torch.stack([radius * angle.cos(), y, radius * angle.sin()], -1).float()


class Outline:
    """rotations (B,24,3,3), betas (B,10), transl (B,3) m -> (B,P,3) m of a body; differentiable.

    Args:
        body: any body; its buffers are read at each call, so it may move between devices.
    """

    def __init__(self, body: BodyModel, directions: int = DIRECTIONS) -> None:
        self.body = body
        owner = body.weights.argmax(1)
        towards = sphere_directions(directions).to(body.v_template)
        kept: list[Tensor] = []
        for joint in owner.unique():
            rows = (owner == joint).nonzero()[:, 0]
            kept.append(rows[(body.v_template[rows] @ towards.T).argmax(0)])
        self.index = torch.cat(kept).unique().cpu()

    def __len__(self) -> int:
        return len(self.index)

    def __call__(self, rotations: Tensor, betas: Tensor, transl: Tensor) -> Tensor:
        body, index = self.body, self.index.to(self.body.v_template.device)
        shaped = body.v_template[index] + blend_shapes(betas, body.shapedirs[index])
        if len(body.posedirs):
            feature = (rotations[:, 1:] - torch.eye(3, dtype=shaped.dtype, device=shaped.device)).flatten(1)
            blends = body.posedirs.view(len(body.posedirs), -1, 3)[:, index].flatten(1)
            shaped = shaped + (feature @ blends).view_as(shaped)
        rest = body.rest_joints(betas)
        _, transforms = batch_rigid_transform(rotations, rest, body.parents, dtype=rest.dtype)
        return skin(shaped, body.weights[index], transforms) + transl[:, None]
