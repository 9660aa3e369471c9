"""Compositing, volumes, rays and files of the field."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from capsule_scenes import JOINTS_M, capsule_field, capsule_rig, random_scene, shape_maps

from posegen.body.joint_sets import SMPL24
from posegen.body.kinematics import forward_kinematics
from posegen.body.rotations import aa_to_matrix
from posegen.errors import CheckpointError, ConfigError
from posegen.renderer.composite import accumulate, exclusive_sum, over, render_weights
from posegen.renderer.field.affine import (
    MAX_STRETCH,
    applied,
    entries_first,
    entries_last,
    eye_like,
    inverse_3x3,
    product,
)
from posegen.renderer.field.artifact import check_skeleton, join_fields, load_field, load_field_file, save_field
from posegen.renderer.field.codes import TableCodes
from posegen.renderer.field.config import FieldConfig
from posegen.renderer.field.layout import kernel_layout
from posegen.renderer.field.march import march
from posegen.renderer.field.transforms import ray_transforms, volume_frames, wrapped
from posegen.renderer.field.volumes import SkinnedMesh, build_rig, rest_joints


def test_weights_of_two_rays_by_hand():
    density, length = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 0.25, 1.0])
    ray = torch.tensor([0, 0, 2])
    weights = render_weights(density, length, ray, 3)
    a, b = 1 - math.exp(-0.5), math.exp(-0.5) * (1 - math.exp(-0.5))
    assert weights.tolist() == pytest.approx([a, b, 1 - math.exp(-3)], abs=1e-6)
    summed = accumulate(weights, torch.eye(3), ray, 3)
    assert summed[0].tolist() == pytest.approx([a, b, 0, a + b], abs=1e-6)
    assert summed[1].tolist() == [0, 0, 0, 0]


def test_exclusive_sum_starts_anew_on_each_ray_and_keeps_small_terms():
    values = torch.cat([torch.full((1000,), 1e4), torch.tensor([1e-3, 2e-3])])
    ray = torch.cat([torch.zeros(1000, dtype=torch.int64), torch.ones(2, dtype=torch.int64)])
    assert exclusive_sum(values, ray)[-2:].tolist() == pytest.approx([0, 1e-3], rel=1e-3)
    assert exclusive_sum(values[:0], ray[:0]).shape == (0,)


def test_over_is_linear_in_alpha():
    rgb, alpha = torch.full((1, 3, 1, 1), 0.2), torch.full((1, 1, 1, 1), 0.5)
    assert over(rgb, alpha, torch.full((1, 3, 1, 1), 0.8)).flatten().tolist() == pytest.approx([0.6] * 3)


def test_products_and_inverses_of_small_matrices():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(5, 7, *size, dtype=torch.float64, generator=generator) for size in ((3, 3), (3, 4)))
    first_a, first_b = entries_first(a, 2), entries_first(b, 2)
    assert torch.allclose(entries_last(inverse_3x3(first_a), 2), torch.linalg.inv(a))
    assert torch.allclose(entries_last(product(first_a, first_b), 2), a @ b)
    assert torch.allclose(entries_last(product(first_a[..., :1], first_b), 2), a[:, :1] @ b)
    assert torch.allclose(entries_last(applied(first_a, first_b[:, 0]), 1), (a @ b[..., :1])[..., 0])
    assert torch.equal(first_a + eye_like(first_a), entries_first(a + torch.eye(3), 2))


def test_rig_repeats_an_affine_shape_space():
    """The capsules' betas are affine maps of space, so each volume's fitted map must be that map about its joint."""
    rig = capsule_rig()
    assert torch.allclose(rig.stretch[18, :, :, 0], 0.04 * torch.eye(3), atol=4e-3)
    betas = torch.zeros(1, 10)
    betas[0, 1] = 1.5
    stretch, shift = shape_maps(rig, betas)
    assert torch.allclose(stretch[:, :, 0, 4], torch.diag(torch.tensor([1.075, 1.0, 1.075])), atol=0.01)
    assert shift.abs().max() < 5e-3
    moved = rest_joints(rig.joints_template, rig.joints_shapedirs, betas)[0]
    assert torch.allclose(moved[18, 0] - JOINTS_M[18, 0], 0.075 * JOINTS_M[18, 0], atol=0.08)


def test_extreme_betas_never_turn_a_volume_inside_out():
    rig = capsule_rig()
    stretch, _ = shape_maps(rig, torch.full((1, 10), 500.0))
    assert torch.linalg.det(entries_last(stretch, 2)).min() > 0
    assert (stretch - eye_like(stretch)).norm(dim=(0, 1)).max() <= MAX_STRETCH + 1e-5


def test_joint_without_skin_gets_a_small_box():
    weights = torch.zeros(50, 24)
    weights[:, 0] = 1
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    mesh = SkinnedMesh(points, torch.zeros(50, 3, 10), weights, JOINTS_M, torch.zeros(24, 3, 10))
    rig = build_rig(mesh, bend=True)
    assert torch.isfinite(rig.stretch).all() and float((rig.high - rig.low)[5].max()) < 0.1


def test_half_volume_turns_by_half_the_angle_whatever_the_turns():
    rig = capsule_rig(half_joints=("left_elbow",))
    pose = torch.zeros(1, 24, 3)
    elbow = SMPL24.index("left_elbow")
    for angle in (1.2, 1.2 - 2 * math.pi):
        pose[0, elbow] = torch.tensor([0.0, angle, 0.0])
        frames, origins = volume_frames(pose, forward_kinematics(aa_to_matrix(pose), JOINTS_M), rig)
        assert torch.allclose(frames[..., 0, -1], aa_to_matrix(torch.tensor([0.0, 0.6, 0.0])), atol=1e-5)
        assert torch.allclose(frames[..., 0, elbow], aa_to_matrix(torch.tensor([0.0, 1.2, 0.0])), atol=1e-5)
        assert torch.allclose(origins[:, 0, -1], JOINTS_M[elbow])
    assert wrapped(torch.zeros(2, 3)).abs().max() == 0


def test_ray_reaches_a_point_at_its_pixel_and_depth():
    """A point seen by the camera model has the voxel coordinates that the ray of its pixel gives at its depth."""
    field, scene = capsule_field(), random_scene(1, 64, seed=8)
    scene = replace(scene, betas=torch.zeros(1, 10), pose=torch.zeros(1, 24, 3))
    transforms = ray_transforms(scene, field.rigs, field.resolution)
    knee = 4
    point = (JOINTS_M[knee] + scene.transl[0])[None, None]
    u, v = scene.camera.project(point)[0, 0]
    depth = scene.camera.to_camera(point)[0, 0, 2]
    p = torch.stack([u / 64 - 0.5, v / 64 - 0.5, torch.ones(())])
    g = transforms.c[0, knee] + depth * (transforms.M[0, knee] @ p)
    expected = -field.rig_low[0, knee] / (field.rig_high - field.rig_low)[0, knee] * (field.resolution - 1)
    assert torch.allclose(g, expected, atol=1e-3)


def test_samples_are_sorted_on_the_lattice_and_pruning_loses_no_more_than_allowed():
    field, scene = capsule_field(), random_scene(2, 32)
    transforms = ray_transforms(scene, field.rigs, field.resolution)
    samples = march(transforms, field.occupancy, 0.005, 0.1, 0.0)
    key = samples.ray.double() * 1e3 + samples.depth.double()
    assert bool((key[1:] >= key[:-1]).all())
    steps = samples.depth / 0.005 * 16 - 0.5
    assert torch.allclose(steps, steps.round(), atol=0.02)
    pruned = march(transforms, field.occupancy, 0.005, 0.1, 0.02)
    assert len(pruned.ray) < len(samples.ray)
    pictures = []
    for threshold in (0.0, 0.02):
        field.config = FieldConfig("eager", 0.005, transmittance_threshold=threshold)
        pictures.append(torch.cat(field(scene), 1))
    assert (pictures[0] - pictures[1]).abs().max() < 0.02  # no more light is lost than was allowed


def test_occupancy_keeps_every_dense_point():
    field = capsule_field(resolution=10)
    generator = torch.Generator().manual_seed(0)
    g = 9 * torch.rand(5000, 3, generator=generator)
    volume = torch.randint(24, (5000,), generator=generator)
    dense = 10 * torch.nn.functional.softplus(field.lookup(g, volume)[:, 0]) > 0.26
    cell = g.long().clamp(0, 8)
    kept = field.cell[((volume * 10 + cell[:, 0]) * 10 + cell[:, 1]) * 10 + cell[:, 2]] > 0
    assert bool(dense.any()) and bool(kept[dense].all())


def test_saved_field_renders_the_same_and_is_small(tmp_path):
    field = capsule_field(2)
    with torch.no_grad():
        field.table[:, 1:4].clamp_(-4, 4)
    path = save_field(field, tmp_path / "two.npz")
    loaded = load_field(str(path))
    assert loaded.subjects == ("capsules_0", "capsules_1")
    scene = random_scene(2, 48, subjects=2)
    assert (torch.cat(loaded(scene), 1) - torch.cat(field(scene), 1)).abs().max() < 0.03
    assert path.stat().st_size < field.table.numel() // 2
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    one = load_field(str(path), FieldConfig(subjects=("capsules_1",)))
    alone = replace(scene[1:2], subject=torch.tensor([0]))
    assert torch.equal(one(alone)[0], loaded(scene[1:2])[0])


def test_unknown_subject_and_foreign_skeletons_are_refused(tmp_path):
    a, b = capsule_field(1), capsule_field(1)
    with pytest.raises(ConfigError, match="did you mean 'capsules_0'"):
        join_fields([a], ["capsules_O"])
    b.rig_joints_template[0, 5, 0] += 0.1
    b.subjects = ("other",)
    with pytest.raises(CheckpointError, match="another skeleton"):
        join_fields([a, b])
    check_skeleton(a, JOINTS_M + 3.0)
    with pytest.raises(CheckpointError, match="100 mm"):
        check_skeleton(b, JOINTS_M)


def test_damaged_files_are_refused(tmp_path):
    path = save_field(capsule_field(1, 8), tmp_path / "one.npz")
    with pytest.raises(CheckpointError, match="no such fitted field"):
        load_field_file(tmp_path / "none.npz")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load_field_file(path)
    path.write_bytes(content)
    arrays = dict(np.load(path))
    np.savez(tmp_path / "version.npz", **(arrays | {"format_version": np.int64(9)}))
    with pytest.raises(CheckpointError, match="has format 9"):
        load_field_file(tmp_path / "version.npz")
    np.savez(tmp_path / "moved.npz", **(arrays | {"rig_joints_template": arrays["rig_joints_template"] + 1}))
    with pytest.raises(CheckpointError, match="altered"):
        load_field_file(tmp_path / "moved.npz")
    np.savez(tmp_path / "short.npz", **(arrays | {"table": arrays["table"][:, :10]}))
    with pytest.raises(CheckpointError, match="table has shape"):
        load_field_file(tmp_path / "short.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(1))
    with pytest.raises(CheckpointError, match="no fitted field"):
        load_field_file(tmp_path / "other.npz")


def test_config_refuses_nonsense():
    with pytest.raises(ConfigError, match="warp"):
        FieldConfig(backend="warp")
    with pytest.raises(ConfigError, match="step_m"):
        FieldConfig(step_m=0.0)


def test_the_kernels_layout_holds_the_same_codes_and_cells():
    generator = torch.Generator().manual_seed(0)
    volumes, n = 3, 6
    codes = torch.randint(0, 256, (volumes * n**3, 8), generator=generator, dtype=torch.uint8)
    cell = (torch.rand(volumes * n**3, generator=generator) < 0.3).to(torch.uint8)
    layout = kernel_layout(cell, TableCodes(codes, torch.zeros(8), torch.ones(8)), n)
    assert layout.blocks is not None and layout.blocks.data_ptr() % 64 == 0
    grid = codes.view(volumes, n, n, n, 8)
    for v, x, y, z in ((0, 0, 0, 0), (1, 3, 2, 5), (2, 5, 4, 1)):
        block = layout.blocks[v, x // 2, y // 2, z // 2, x % 2, y % 2, z % 2]
        assert torch.equal(block, grid[v, x, y, z])
    bits = [int(layout.occupied[i >> 3]) >> (i & 7) & 1 for i in range(len(cell))]
    assert bits == cell.tolist()
    assert kernel_layout(cell, None, n).blocks is None and kernel_layout(cell[:125], None, 5).blocks is None


def test_the_layout_follows_the_cells():
    field = capsule_field()
    before = field.layout
    assert field.layout is before
    field.cell.zero_()  # as a fit that goes on does, in place
    assert field.layout is not before and not field.layout.occupied.any()
