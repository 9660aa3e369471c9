"""Volumes that bend with the pose: they follow skinning as closely as affine maps can, and never turn inside out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from capsule_scenes import JOINTS_M, capsule_field, capsule_mesh, capsule_rig, random_scene, shape_maps
from torch import Tensor

from posegen.body.joint_sets import SMPL24
from posegen.body.kinematics import forward_kinematics
from posegen.body.rotations import aa_to_matrix
from posegen.errors import CheckpointError, ConfigError, DataError
from posegen.renderer.field.affine import MAX_BEND, entries_first, entries_last, inverse_3x3, saturated, turned_back
from posegen.renderer.field.artifact import join_fields, load_field_file, save_field
from posegen.renderer.field.bending import BENDING_JOINTS, bend_deformation, bending_fit
from posegen.renderer.field.dense_mesh import densified
from posegen.renderer.field.field import ArticulatedField
from posegen.renderer.field.regions import find_regions, region_weights, vertex_areas
from posegen.renderer.field.transforms import ray_transforms, volume_frames
from posegen.renderer.field.volumes import (
    SkinnedMesh,
    VolumeRig,
    place_volumes,
    rest_joints,
    volume_weights,
)

ELBOW, SHOULDER = SMPL24.index("left_elbow"), SMPL24.index("left_shoulder")
HALF = ("left_elbow", "right_knee")


def deformations(rig: VolumeRig, pose: Tensor, betas: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """The bend A (B,K,3,3), d (B,K,3) of a rig, and its frames."""
    many = VolumeRig(**{k: v.to(pose.dtype) if v.is_floating_point() else v for k, v in vars(rig).items()})
    batch = len(pose)
    rest = rest_joints(many.joints_template, many.joints_shapedirs, betas)
    posed = forward_kinematics(aa_to_matrix(pose), rest)
    frames, origins = volume_frames(pose, posed, many)
    stretch, shift = shape_maps(many, betas)
    middle = (0.5 * (many.low + many.high)).T[:, None].expand(-1, batch, -1)
    bend = many.bend.permute(2, 3, 1, 0)[..., None, :].expand(-1, -1, -1, batch, -1)
    A, d = bend_deformation(
        many.joint, many.bend_joint.T[:, None].expand(-1, batch, -1), bend, middle, rest, posed, (frames, origins),
        (stretch, shift, inverse_3x3(stretch)),
    )  # fmt: skip
    return entries_last(A, 2), entries_last(d, 1), (entries_last(frames, 2), entries_last(origins, 1))


def skinned(points_m: Tensor, weights: Tensor, pose: Tensor) -> Tensor:
    """Linear blend skinning of rest points (V,3) on the capsules' skeleton, by its definition: (B,V,3)."""
    rotation, position = forward_kinematics(aa_to_matrix(pose), JOINTS_M.to(pose.dtype))
    relative = points_m[:, None] - JOINTS_M.to(pose.dtype)  # (V,24,3)
    carried = torch.einsum("bjac,vjc->bvja", rotation, relative) + position[:, None]
    return (weights[None, ..., None] * carried).sum(2)


def test_pose_of_zero_bends_nothing():
    rig = capsule_rig(half_joints=HALF, bend=True)
    pose = torch.zeros(3, 24, 3)
    pose[1:, 0] = torch.tensor([[0.3, -2.0, 1.0], [3.0, 1.0, -4.0]])  # turning the whole body is no bend
    betas = torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    A, d, _ = deformations(rig, pose, betas)
    assert (A - torch.eye(3)).abs().max() < 2e-6 and d.abs().max() < 2e-6
    assert bool((rig.bend.flatten(1).norm(dim=1) > 0.5).all())


def test_rigid_and_bending_fields_agree_at_rest():
    scene = replace(random_scene(2, 32), pose=torch.zeros(2, 24, 3))
    pictures = [torch.cat(capsule_field(half_joints=HALF, bend=bend)(scene), 1) for bend in (False, True)]
    assert (pictures[0] - pictures[1]).abs().max() < 2e-4


def test_skin_between_two_bones_is_carried_to_the_middle():
    """Skin that follows upper arm and forearm in halves, the elbow bent by 90 degrees about z: a point 0.1 m along the
    arm goes to half of (0.1, 0, 0) + (0, 0.1, 0) from the elbow."""
    generator = torch.Generator().manual_seed(0)
    points = 0.1 * torch.randn(200, 3, generator=generator)
    weights = torch.zeros(200, 24)
    weights[:, [SHOULDER, ELBOW]] = 0.5
    joints, bend = bending_fit(points, weights, torch.ones(200), ridge_m=0.0)
    assert set(joints[:2].tolist()) == {SHOULDER, ELBOW} and len(joints) == BENDING_JOINTS
    assert torch.allclose(bend[:2], 0.5 * torch.eye(4).double().expand(2, 4, 4), atol=1e-6)

    template = capsule_rig(half_joints=("left_elbow",), bend=True)
    rig = replace(
        template, bend_joint=template.bend_joint.clone(), bend=template.bend.clone(), low=-torch.ones(25, 3),
        high=torch.ones(25, 3),
    )  # fmt: skip
    rig.bend_joint[24], rig.bend[24] = joints, bend.float()
    pose = torch.zeros(1, 24, 3)
    pose[0, ELBOW, 2] = math.pi / 2
    A, d, (frames, origins) = deformations(rig, pose, torch.zeros(1, 10))
    point = torch.tensor([0.1, 0.0, 0.0])
    world = frames[0, 24] @ (A[0, 24] @ point + d[0, 24]) + origins[0, 24]
    assert torch.allclose(world - JOINTS_M[ELBOW], torch.tensor([0.05, 0.05, 0.0]), atol=1e-4)


def test_closed_form_is_the_least_squares_fit_of_every_pose():
    """Against a fit of each posed mesh by itself. Small turns, so that nothing saturates; no ridge."""
    mesh = capsule_mesh()
    joint = torch.tensor([ELBOW])
    importance = volume_weights(mesh.weights, joint, torch.ones(1))[:, 0] ** 2
    points = (mesh.template_m - JOINTS_M[ELBOW]).double()
    bend_joint, bend = bending_fit(points, mesh.weights, importance, ridge_m=0.0)
    rig = place_volumes(mesh, joint, torch.ones(1), importance[:, None], importance[:, None])
    rig = replace(rig, bend_joint=bend_joint[None], bend=bend[None])
    pose = 0.2 * torch.randn(4, 24, 3, generator=torch.Generator().manual_seed(1)).double()
    A, d, (frames, origins) = deformations(rig, pose, torch.zeros(4, 10).double())
    target = skinned(mesh.template_m.double(), mesh.weights.double(), pose)
    local = (target - origins[:, :1]) @ frames[:, 0]
    design = torch.cat([points, torch.ones(len(points), 1)], 1)
    root = importance.double().sqrt()[:, None]
    for i in range(4):
        brute = torch.linalg.lstsq(root * design, root * local[i]).solution
        assert torch.allclose(A[i, 0], brute[:3].T, atol=1e-4)
        assert torch.allclose(d[i, 0], brute[3], atol=1e-5)
    assert (A - torch.eye(3)).norm(dim=(-2, -1)).max() > 0.02  # there was something to fit


def test_wild_poses_and_shapes_never_turn_a_volume_inside_out():
    rig = capsule_rig(half_joints=HALF, bend=True)
    generator = torch.Generator().manual_seed(2)
    pose = 20 * torch.randn(64, 24, 3, generator=generator)
    pose[:8] = math.pi * torch.nn.functional.normalize(pose[:8], dim=-1)  # flips
    pose[8] = 0
    pose.requires_grad_()
    betas = (10 * torch.randn(64, 10, generator=generator)).requires_grad_()
    A, d, _ = deformations(rig, pose, betas)
    assert torch.linalg.det(A).min() > 1e-3
    assert (A - torch.eye(3)).norm(dim=(-2, -1)).max() <= MAX_BEND + 1e-5
    assert bool(torch.isfinite(d).all()) and bool(torch.isfinite(inverse_3x3(entries_first(A, 2))).all())
    (A.square().sum() + d.square().sum()).backward()
    assert bool(torch.isfinite(pose.grad).all()) and bool(torch.isfinite(betas.grad).all())


def test_saturation_keeps_small_maps_and_bounds_large_ones():
    linear = torch.randn(100, 3, 3, generator=torch.Generator().manual_seed(3)).double()
    linear = entries_first(linear / linear.norm(dim=(1, 2), keepdim=True), 2)
    assert torch.allclose(saturated(0.45 * linear, 0.9, 8), 0.45 * linear, rtol=6e-4)
    assert torch.allclose(saturated(1e3 * linear, 0.9, 8), 0.9 * linear, rtol=1e-6)
    assert saturated(torch.zeros(3, 3, 1), 0.9, 8).abs().max() == 0


def test_turned_back_is_the_inverse_of_a_rotation_and_nearly_of_a_stretched_one():
    turn = aa_to_matrix(torch.tensor([0.4, -1.0, 0.2]).double())
    assert torch.allclose(turned_back(turn, turn.T), turn.T)
    stretched = turn @ torch.diag(torch.tensor([1.1, 1.0, 0.95]).double())
    assert (turned_back(stretched, inverse_3x3(stretched)) - turn.T).abs().max() < 0.01


def test_gradient_in_pose_and_shape_is_exact():
    rig = capsule_rig(half_joints=HALF, bend=True)
    scene = random_scene(1, 8, dtype=torch.float64)
    stacked = VolumeRig(**{k: v if k in ("joint", "fraction") else v[None] for k, v in vars(rig).items()})

    def maps(pose: Tensor, betas: Tensor) -> tuple[Tensor, ...]:
        out = ray_transforms(replace(scene, pose=pose, betas=betas), stacked, 16)
        return out.M, out.c, out.light

    inputs = (scene.pose.clone().requires_grad_(), scene.betas.clone().requires_grad_())
    assert torch.autograd.gradcheck(maps, inputs, fast_mode=True)


def test_bending_field_survives_its_file_and_a_rigid_one_stays_version_1(tmp_path):
    field = capsule_field(2, half_joints=HALF, bend=True)
    loaded = load_field_file(save_field(field, tmp_path / "bending.npz"))
    assert loaded.bends and torch.equal(loaded.rig_bend, field.rig_bend)
    assert torch.equal(loaded.rig_bend_joint, field.rig_bend_joint)
    scene = random_scene(2, 48, subjects=2)
    assert (torch.cat(loaded(scene), 1) - torch.cat(field(scene), 1)).abs().max() < 0.05
    assert int(np.load(tmp_path / "bending.npz")["format_version"]) == 2

    rigid = capsule_field(2, half_joints=HALF)
    arrays = dict(np.load(save_field(rigid, tmp_path / "rigid.npz")))
    assert int(arrays["format_version"]) == 1 and set(arrays) == {
        "format_version", "subjects", "skeleton", "resolution", "table", "table_low", "table_high",
        "rig_joints_template", "rig_joints_shapedirs", "rig_joint", "rig_fraction", "rig_low", "rig_high",
        "rig_stretch", "rig_shift",
    }  # fmt: skip
    old = load_field_file(tmp_path / "rigid.npz")
    assert not old.bends and (torch.cat(old(scene), 1) - torch.cat(rigid(scene), 1)).abs().max() < 0.05
    bent, straight = torch.cat(loaded(scene), 1), torch.cat(old(scene), 1)
    assert (bent - straight).abs().max() > 0.05
    with pytest.raises(DataError, match="others do not"):
        join_fields([loaded, replace_names(old, ("a", "b"))])


def replace_names(field: ArticulatedField, names: tuple[str, ...]) -> ArticulatedField:
    field.subjects = names
    return field


def test_damaged_bending_is_refused(tmp_path):
    path = save_field(capsule_field(1, 8, bend=True), tmp_path / "one.npz")
    arrays = dict(np.load(path))
    without = {name: value for name, value in arrays.items() if name != "rig_bend"}
    broken = {
        "lacks rig_bend": without,
        "has shapes": arrays | {"rig_bend": arrays["rig_bend"][:, :5]},
        "numbers from 0 to 23": arrays | {"rig_bend_joint": arrays["rig_bend_joint"] + 20},
        "not finite": arrays | {"rig_bend": arrays["rig_bend"] * np.float32("nan")},
    }
    for message, content in broken.items():
        np.savez(tmp_path / "broken.npz", **content)
        with pytest.raises(CheckpointError, match=message):
            load_field_file(tmp_path / "broken.npz")


def test_areas_of_a_square():
    square = torch.tensor([[0.0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]])
    areas = vertex_areas(square, torch.tensor([[0, 1, 2], [0, 2, 3]]))
    assert areas.tolist() == pytest.approx([4 / 3, 2 / 3, 4 / 3, 2 / 3])


def test_coarse_mesh_is_split_without_changing_its_surface():
    """A right triangle of 0.1 m: split until no edge is longer than 3 cm, its area and its linear fields kept."""
    template = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0.5, 0.5, 0.5]])
    weights = torch.zeros(4, 24)
    weights[[0, 1, 2, 3], [0, 1, 2, 3]] = 1
    shapedirs = template[:, :, None] * torch.arange(10.0)
    mesh = SkinnedMesh(template, shapedirs, weights, JOINTS_M, torch.zeros(24, 3, 10))
    dense, faces = densified(mesh, torch.tensor([[0, 1, 2]]), 0.03)
    assert torch.equal(dense.template_m[:4], template) and len(faces) == 4**3
    corner = dense.template_m[faces]
    assert (corner - corner.roll(1, 1)).norm(dim=-1).max() < 0.03
    assert float(vertex_areas(dense.template_m, faces).sum()) == pytest.approx(0.005)
    assert torch.allclose(dense.weights[:, 1], dense.template_m[:, 0] / 0.1 * (dense.weights[:, 3] == 0), atol=1e-6)
    assert torch.allclose(dense.shapedirs_m[..., 3], 3 * dense.template_m, atol=1e-6)
    same, faces = densified(mesh, torch.tensor([[0, 1, 2]]), 0.2)
    assert torch.equal(same.template_m, template) and faces.tolist() == [[0, 1, 2]]


def test_regions_part_the_capsules_by_bones():
    """With as many regions as there are bones, hands and feet have their own, and every vertex is in a core."""
    mesh = capsule_mesh()
    count = len(mesh.template_m)
    faces = torch.arange(count)[:, None].expand(-1, 3) + torch.tensor([0, 1, 2])
    regions = find_regions(mesh.template_m, mesh.weights, faces % count, 24)
    again = find_regions(mesh.template_m, mesh.weights, faces % count, 24)
    assert torch.equal(regions.centre, again.centre) and len(regions) == 24
    follow = region_weights(regions, mesh.template_m, mesh.weights)
    assert torch.equal(follow.amax(1), torch.ones(count)) and follow.min() >= 0
    ends = {SMPL24.index(name) for name in ("left_hand", "right_hand", "left_foot", "right_foot", "head")}
    assert ends <= set(regions.joint.tolist())
    assert set(regions.fraction.tolist()) <= {0.5, 1.0}
    with pytest.raises(ConfigError, match="1 to 256"):
        find_regions(mesh.template_m, mesh.weights, faces % count, 257)


def test_regions_of_the_package_carry_the_skin_closely():
    """Root mean square error of the skin over poses of the clips, each vertex by the volume it belongs to most: rigid
    bones 12 mm, regions that bend under 5 mm."""
    from posegen.body.model import load_body
    from posegen.body.subjects import load_subjects
    from posegen.renderer.fit.command import FitConfig, place
    from posegen.renderer.fit.views import mesh_scene, subject_mesh

    subject = load_subjects(["amber"])[0]
    scene = mesh_scene(subject, 12, 96, seed=5, split="held_out")
    true = subject.posed(scene.pose, scene.betas)
    area = vertex_areas(subject.template, subject.faces)
    errors = []
    for config in (FitConfig(regions=0, bend=False), FitConfig()):
        rig, skin = place(subject_mesh(subject), subject.faces, load_body(None), config)
        follow = skin.follow[: len(subject.template)]  # the mesh's own vertices come first
        rest = rest_joints(rig.joints_template, rig.joints_shapedirs, scene.betas)
        frames, origins = volume_frames(scene.pose, forward_kinematics(aa_to_matrix(scene.pose), rest), rig)
        frames, origins = entries_last(frames, 2), entries_last(origins, 1)
        stretch, shift = shape_maps(rig, scene.betas)
        stretch, shift = entries_last(stretch, 2), entries_last(shift, 1)
        if config.bend:
            bend, offset, _ = deformations(rig, scene.pose, scene.betas)
            stretch, shift = stretch @ bend, shift + (stretch @ offset[..., None])[..., 0]
        owner = follow.argmax(1)
        points = subject.template - rig.joints_template[rig.joint[owner]]
        local = (stretch[:, owner] @ points[..., None])[..., 0] + shift[:, owner]
        carried = (frames[:, owner] @ local[..., None])[..., 0] + origins[:, owner]
        square = (carried - true).square().sum(-1)
        errors.append(float((square @ area / area.sum()).mean().sqrt()))
    assert errors[0] > 0.010 and errors[1] < 0.005, errors
