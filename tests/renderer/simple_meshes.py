"""A sphere, a box and a scene whose pictures can be worked out by hand."""

from __future__ import annotations

import numpy as np
import torch
import trimesh

from posegen.body.dressed import DressedSubject
from posegen.scene import Camera, Light, Scene


def rigid(mesh: trimesh.Trimesh, colour: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> DressedSubject:
    count = len(mesh.vertices)
    weights = torch.zeros(count, 24)
    weights[:, 0] = 1
    return DressedSubject(
        "shape",
        torch.tensor(np.array(mesh.vertices), dtype=torch.float32),
        torch.zeros(count, 3, 10),
        weights,
        torch.tensor(np.array(mesh.faces)),
        torch.tensor(colour).expand(count, 3).clone(),
        torch.zeros(24, 3),
        torch.zeros(24, 3, 10),
    )


SPHERE = rigid(trimesh.creation.icosphere(subdivisions=5, radius=0.5))
BOX = rigid(trimesh.creation.box(extents=(0.6, 0.9, 0.4)), (0.2, 0.5, 0.8))


def scene(
    distance: float = 3.0,
    centre: tuple[float, float] = (32.0, 32.0),
    light: tuple[float, float, float] = (0.0, 0.0, -1.0),
    ambient: float = 0.0,
    diffuse: float = 1.0,
    size: tuple[int, int] = (64, 64),
    batch: int = 1,
) -> Scene:
    """A camera at the origin of the world with the world's axes; the subject `distance` m ahead of it."""
    camera = Camera(
        torch.eye(3).expand(batch, 3, 3),
        torch.zeros(batch, 3),
        torch.full((batch,), 120.0),
        torch.tensor(centre).expand(batch, 2),
        *size,
    )
    return Scene(
        torch.zeros(batch, 24, 3), torch.zeros(batch, 10), torch.tensor([0.0, 0.0, distance]).expand(batch, 3), camera,
        torch.zeros(batch, dtype=torch.int64),
        Light(torch.tensor(light).expand(batch, 3), torch.full((batch,), ambient), torch.full((batch,), diffuse)),
        torch.full((batch,), -1),
    )  # fmt: skip
