"""An analytic subject for tests: a person of capsules, with a field filled from their signed distances."""

from __future__ import annotations

import torch
from scipy.spatial import ConvexHull
from torch import Tensor

from posegen.body.joint_sets import SMPL_PARENTS
from posegen.renderer.field.appearance import EMPTY, density
from posegen.renderer.field.config import FieldConfig
from posegen.renderer.field.field import ArticulatedField
from posegen.renderer.field.volumes import SkinnedMesh, VolumeRig, build_rig, shape_deformation
from posegen.scene import Camera, Light, Scene

JOINTS_M = torch.tensor([
    [0.0, 0.0, 0.0], [0.07, -0.09, 0.0], [-0.07, -0.09, 0.0], [0.0, 0.11, -0.02], [0.1, -0.48, 0.0],
    [-0.1, -0.48, 0.0], [0.0, 0.25, 0.0], [0.09, -0.9, -0.03], [-0.09, -0.9, -0.03], [0.0, 0.3, 0.02],
    [0.11, -0.96, 0.09], [-0.11, -0.96, 0.09], [0.0, 0.52, -0.02], [0.08, 0.43, -0.01], [-0.08, 0.43, -0.01],
    [0.0, 0.6, 0.02], [0.17, 0.45, -0.01], [-0.17, 0.45, -0.01], [0.43, 0.44, -0.03], [-0.43, 0.44, -0.03],
    [0.68, 0.44, -0.03], [-0.68, 0.44, -0.03], [0.76, 0.43, -0.04], [-0.76, 0.43, -0.04],
])  # fmt: skip
RADIUS_M = 0.07


def ends(joint: int) -> Tensor:
    """Segment (2,3) from a joint to its first child, or a stub at the end of a limb."""
    children = [child for child, parent in enumerate(SMPL_PARENTS) if parent == joint]
    start = JOINTS_M[joint]
    if joint == 0:
        return torch.stack([start, JOINTS_M[3]])
    if not children:
        return torch.stack([start, start + 0.5 * (start - JOINTS_M[SMPL_PARENTS[joint]])])
    return torch.stack([start, JOINTS_M[children[0]]])


def segment_distance(points: Tensor, segment: Tensor) -> Tensor:
    """(...,3), (2,3) -> (...) m."""
    axis = segment[1] - segment[0]
    along = ((points - segment[0]) @ axis / (axis @ axis)).clamp(0, 1)
    return (points - segment[0] - along[..., None] * axis).norm(dim=-1)


def capsule_skin(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Vertices (V,3) on the capsules and their skinning weights (V,24)."""
    vertices, weights = [], []
    for joint in range(24):
        segment = ends(joint)
        along = torch.rand(80, 1, generator=generator)
        around = torch.nn.functional.normalize(torch.randn(80, 3, generator=generator), dim=1)
        vertices.append(segment[0] + along * (segment[1] - segment[0]) + RADIUS_M * around)
        weight = torch.zeros(80, 24)
        share = 0.5 * (1 - along[:, 0] / 0.3).clamp_min(0)
        weight[:, joint] = 1 - share
        weight[:, max(SMPL_PARENTS[joint], 0)] += share
        weights.append(weight)
    return torch.cat(vertices), torch.cat(weights)


def capsule_faces(vertices: Tensor) -> Tensor:
    """Faces (F,3) of what `capsule_skin` gives, outward: the hull of some points of each capsule."""
    faces = []
    for start in range(0, len(vertices), 80):
        points = vertices[start : start + 20].double()
        hull = ConvexHull(points.numpy())
        face = torch.from_numpy(hull.simplices).long()
        corner = points[face]
        normal = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        inward = (normal * torch.from_numpy(hull.equations[:, :3])).sum(1) < 0
        face[inward] = face[inward].flip(1)
        faces.append(start + face)
    return torch.cat(faces)


def capsule_mesh(seed: int = 0) -> SkinnedMesh:
    generator = torch.Generator().manual_seed(seed)
    template, weight = capsule_skin(generator)
    affine = 0.02 * torch.randn(10, 4, 3, generator=generator)
    affine[0, :3], affine[1, :3] = 0.04 * torch.eye(3), torch.diag(torch.tensor([0.05, 0.0, 0.05]))

    def directions(points: Tensor) -> Tensor:
        homogeneous = torch.cat([points, torch.ones(len(points), 1)], 1)
        return torch.einsum("va,cad->vdc", homogeneous, affine)

    return SkinnedMesh(template, directions(template), weight, JOINTS_M, directions(JOINTS_M))


def capsule_rig(seed: int = 0, half_joints: tuple[str, ...] = (), bend: bool = False) -> VolumeRig:
    return build_rig(capsule_mesh(seed), half_joints, bend=bend)


def capsule_field(
    subjects: int = 1,
    resolution: int = 16,
    config: FieldConfig | None = None,
    half_joints: tuple[str, ...] = (),
    bend: bool = False,
) -> ArticulatedField:
    """A field of smooth capsules with coloured bones and radial normals."""
    rigs = [capsule_rig(seed, half_joints, bend) for seed in range(subjects)]
    field = ArticulatedField(rigs, [f"capsules_{i}" for i in range(subjects)], resolution, config)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        voxels = field.voxels()
        for subject in range(subjects):
            points = field.voxel_points(subject)
            for volume, joint in enumerate(field.rig_joint.tolist()):
                segment = ends(joint) - JOINTS_M[joint]
                distance = segment_distance(points[volume], segment)
                voxels[subject, volume, ..., 0] = ((RADIUS_M - 0.01 - distance) / 0.008).clamp(EMPTY, 6)
                voxels[subject, volume, ..., 1:4] = torch.randn(3, generator=generator) + 8 * points[volume]
                voxels[subject, volume, ..., 4:7] = points[volume] - segment.mean(0)
                voxels[subject, volume, ..., 7] = 2.0
    field.empty_border()
    field.update_occupancy()
    field.requires_grad_(False)
    assert density(field.table[:, 0]).max() > 10
    return field


def shape_maps(rig: VolumeRig, betas: Tensor) -> tuple[Tensor, Tensor]:
    """What betas (B,10) do to the volumes of one rig: A (3,3,B,K) and d (3,B,K) m."""
    batch = len(betas)
    stretch = rig.stretch.permute(3, 1, 2, 0)[..., None, :].expand(-1, -1, -1, batch, -1)
    shift = rig.shift.permute(2, 1, 0)[..., None, :].expand(-1, -1, batch, -1)
    return shape_deformation(stretch, shift, betas)


def random_scene(batch: int, size: int, seed: int = 0, subjects: int = 1, dtype: torch.dtype = torch.float32) -> Scene:
    """Random poses, shapes, cameras all around, and lights."""
    from posegen.body.rotations import aa_to_matrix

    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    pose = 0.25 * normal(batch, 24, 3)
    azimuth, elevation = 6.28 * uniform(batch), uniform(batch) - 0.4
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    turn = aa_to_matrix(torch.stack([torch.zeros(batch), azimuth, torch.zeros(batch)], 1))
    tilt = aa_to_matrix(torch.stack([elevation, 0.2 * normal(batch), 0.2 * normal(batch)], 1))
    t = torch.stack([0.1 * normal(batch), 0.1 * normal(batch), 2.6 + 0.6 * uniform(batch)], 1)
    camera = Camera(
        (flip @ tilt @ turn), t, size * (1.1 + 0.2 * uniform(batch)), size * (0.5 + 0.02 * normal(batch, 2)), size, size
    )
    light = Light(
        torch.nn.functional.normalize(normal(batch, 3), dim=1), 0.5 + 0.2 * uniform(batch), 0.3 + 0.2 * uniform(batch)
    )
    scene = Scene(
        pose, normal(batch, 10), 0.1 * normal(batch, 3), camera,
        torch.arange(batch) % subjects, light, torch.full((batch,), -1),
    )  # fmt: skip
    return scene.to(dtype)
