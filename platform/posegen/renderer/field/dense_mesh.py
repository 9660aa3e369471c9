"""Points between a mesh's vertices, so that what is placed by its vertices leaves no gaps where it is coarse."""

from __future__ import annotations

import torch
from torch import Tensor

from posegen.renderer.field.volumes import SkinnedMesh

SPACING_M = 0.015
MOST_ROUNDS = 5  # of halving: edges of up to half a metre


def densified(mesh: SkinnedMesh, faces: Tensor, spacing_m: float = SPACING_M) -> tuple[SkinnedMesh, Tensor]:
    """Splits faces (F,3) in four until their edges are no longer than `spacing_m`. Returns the new mesh and faces.

    Everything is interpolated linearly, as it is within a posed face, so that the surface stays the same. Neighbours
    of unlike size are not joined anew: the result is a set of points and the areas around them, not a closed mesh.
    """
    values = torch.cat([mesh.template_m, mesh.shapedirs_m.flatten(1), mesh.weights], 1)
    for _ in range(MOST_ROUNDS):
        corner = values[faces][..., :3]
        long = (corner - corner.roll(1, 1)).norm(dim=-1).amax(1) > spacing_m
        if not bool(long.any()):
            break
        split = faces[long]
        edges = torch.stack([split, split.roll(-1, 1)], -1)  # (f,3,2): corners 0-1, 1-2, 2-0
        unique, place = edges.sort(-1).values.view(-1, 2).unique(dim=0, return_inverse=True)
        middle = (len(values) + place).view(-1, 3)
        values = torch.cat([values, 0.5 * (values[unique[:, 0]] + values[unique[:, 1]])])
        around = torch.stack([split, middle, middle.roll(1, 1)], -1).view(-1, 3)  # a corner and its two middles
        faces = torch.cat([faces[~long], around, middle])
    template, directions, weights = values.split([3, values.shape[1] - 27, 24], 1)
    dense = SkinnedMesh(
        template, directions.reshape(len(values), 3, -1), weights, mesh.joints_template, mesh.joints_shapedirs
    )
    return dense, faces
