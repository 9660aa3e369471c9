"""From a scene to what the ray march needs: for each image and volume an affine map from rays to voxel coordinates.

A pixel's ray is p = ((x + 0.5) / W - 0.5, (y + 0.5) / W - 0.5, 1), and the point at depth z on it lies at the voxel
coordinates g = c + z M p of a volume. Pose, betas, translation and camera enter the picture only through M, c, the
light in the volumes' frames, and the lens that gives a ray's length per unit of depth. All of it is differentiable.
Bending (`bending`) is a part of these maps, and so costs nothing a sample; the light is turned back with it.

Dimensions: B batch, K volumes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL_PARENTS
from posegen.body.kinematics import forward_kinematics
from posegen.body.rotations import aa_to_matrix
from posegen.renderer.field.affine import applied, entries_first, entries_last, inverse_3x3, product, turned_back
from posegen.renderer.field.bending import bend_deformation
from posegen.renderer.field.volumes import VolumeRig, rest_joints, shape_deformation
from posegen.scene import Scene, TensorRecord


@dataclass(frozen=True)
class RayTransforms(TensorRecord):
    """Everything of a scene that reaches the samples."""

    M: Tensor  # (B,K,3,3) pixel ray -> voxel units per metre of depth
    c: Tensor  # (B,K,3) voxel coordinates of the camera centre
    light: Tensor  # (B,K,3) unit direction towards the light in the volume's frame
    shade: Tensor  # (B,2) ambient, diffuse
    lens: Tensor  # (B,3): h, a, b of the ray length sqrt(1 + h ((p_x - a)^2 + (p_y - b)^2))
    volume: Tensor  # (B,K) int64, row of the field's volumes: subject * K + k
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.M)


def wrapped(aa: Tensor) -> Tensor:
    """The same rotations (...,3) with angles in [0, pi], so that half of an angle is well defined."""
    angle = aa.detach().norm(dim=-1, keepdim=True)
    turns = torch.round(angle / (2 * math.pi))
    return torch.where(turns > 0, aa * (1 - 2 * math.pi * turns / aa.norm(dim=-1, keepdim=True).clamp_min(1.0)), aa)


def volume_frames(pose: Tensor, posed: tuple[Tensor, Tensor], rig: VolumeRig) -> tuple[Tensor, Tensor]:
    """The volumes' rotations (3,3,B,K) and origins (3,B,K) m in the world.

    Args:
        pose: (B,24,3) rad.
        posed: the joints' rotations (B,24,3,3) and positions (B,24,3) m in the world, by forward kinematics.
    """
    rotation, position = posed
    joints = rig.joint.tolist()
    halved = (rig.fraction == 0.5).nonzero()[:, 0].tolist()
    row = rig.joint
    if halved:
        half_joints = sorted({joints[k] for k in halved})
        half = rotation[:, [SMPL_PARENTS[j] for j in half_joints]] @ aa_to_matrix(0.5 * wrapped(pose[:, half_joints]))
        rotation = torch.cat([rotation, half], 1)
        row = row.clone()
        row[halved] = torch.tensor([24 + half_joints.index(joints[k]) for k in halved], device=row.device)
    return rotation.permute(2, 3, 0, 1).index_select(3, row), position.permute(2, 0, 1).index_select(2, rig.joint)


def ray_transforms(scene: Scene, rigs: VolumeRig, resolution: int) -> RayTransforms:
    """Maps the rays of a scene's cameras into the posed volumes.

    Args:
        scene: checked (see `checks.check_scene`).
        rigs: the rigs of all subjects, stacked: every field has a leading subject dimension, except `joint` and
            `fraction`, which all subjects share.
        resolution: voxels along each side of a volume.
    """
    camera, dtype = scene.camera, scene.pose.dtype
    subject = scene.subject

    def of_images(values: Tensor) -> Tensor:  # (S,K,...) -> (...,B,K)
        values = values.to(dtype) if values.is_floating_point() else values
        return entries_first(values, values.ndim - 2).index_select(values.ndim - 2, subject)

    rest = rest_joints(rigs.joints_template.to(dtype)[subject], rigs.joints_shapedirs.to(dtype)[subject], scene.betas)
    posed = forward_kinematics(aa_to_matrix(scene.pose), rest)
    frames, origins = volume_frames(scene.pose, posed, rigs)
    stretch = of_images(rigs.stretch.movedim(-1, 2))
    shift = of_images(rigs.shift.movedim(-1, 2))
    stretch, shift = shape_deformation(stretch, shift, scene.betas)
    low, high = of_images(rigs.low), of_images(rigs.high)
    per_metre = (resolution - 1) / (high - low)

    to_volume = frames.transpose(0, 1)  # world -> volume
    light = torch.nn.functional.normalize(scene.light.direction.to(dtype), dim=-1)
    light = applied(to_volume, light.T[..., None])
    inverse_stretch = inverse_3x3(stretch)
    if rigs.bend.shape[-3]:
        bend, offset = bend_deformation(
            rigs.joint, of_images(rigs.bend_joint), of_images(rigs.bend.movedim(2, -1)), 0.5 * (low + high), rest,
            posed, (frames, origins), (stretch, shift, inverse_stretch),
        )  # fmt: skip
        inverse_bend = inverse_3x3(bend)
        light = applied(turned_back(bend, inverse_bend), light)
        light = light / (light * light).sum(0).sqrt()
        shift = shift + applied(stretch, offset)
        inverse_stretch = product(inverse_bend, inverse_stretch)
    centre_world = -(camera.R.transpose(-1, -2) @ camera.t[..., None])[..., 0] - scene.transl
    local = applied(to_volume, centre_world.T[..., None] - origins) - shift
    c = (applied(inverse_stretch, local) - low) * per_metre

    width = camera.width
    inverse_focal = width / camera.focal  # per unit of p
    offset = camera.centre / width - 0.5
    zero, one = torch.zeros_like(inverse_focal), torch.ones_like(inverse_focal)
    unproject = torch.stack(
        [
            torch.stack([inverse_focal, zero, -offset[:, 0] * inverse_focal], -1),
            torch.stack([zero, inverse_focal, -offset[:, 1] * inverse_focal], -1),
            torch.stack([zero, zero, one], -1),
        ],
        -2,
    )
    to_world = camera.R.transpose(-1, -2) @ unproject  # (B,3,3) pixel ray -> metres in the world per metre of depth
    M = product(product(inverse_stretch, to_volume), entries_first(to_world, 2)[..., None]) * per_metre[:, None]
    count = len(rigs.joint)
    return RayTransforms(
        entries_last(M, 2),
        entries_last(c, 1),
        entries_last(light, 1),
        torch.stack([scene.light.ambient, scene.light.diffuse], -1).to(dtype),
        torch.cat([inverse_focal[:, None] ** 2, offset], -1),
        subject[:, None] * count + torch.arange(count, device=subject.device),
        camera.height,
        width,
    )
