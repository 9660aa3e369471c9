"""A-NeRF import: strict loading, encodings by hand, volume rendering, and pictures of the original code."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from capsule_scenes import JOINTS_M
from synthetic_anerf import StickBody, anerf_scene, checkpoint_state, write_checkpoint

from posegen.body.rotations import aa_to_matrix
from posegen.errors import CheckpointError, ConfigError, PosegenError
from posegen.renderer.anerf import rays as anerf_rays
from posegen.renderer.anerf.checkpoint import ANerfConfig, config_from_args, read_anerf
from posegen.renderer.anerf.encoding import (
    CutoffEncoding,
    PlainEncoding,
    directions_in_bones,
    in_bones,
    world_to_bones,
)
from posegen.renderer.anerf.renderer import REFERENCE_BONE, ANerfRenderer, load_anerf, mean_bone
from posegen.scene import Scene

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("anerf") / "150000.tar")


@pytest.fixture(scope="module")
def renderer(tar: Path) -> ANerfRenderer:
    return load_anerf(tar, body=StickBody(), frame=3)  # type: ignore[arg-type]


# --- encodings ---


def test_points_and_rays_in_bone_frames() -> None:
    quarter = aa_to_matrix(torch.tensor([0.0, 0.0, math.pi / 2]))  # the bone's x axis points along the world's y
    bones = world_to_bones(quarter.expand(1, 24, 3, 3), torch.tensor([1.0, 2.0, 3.0]).expand(1, 24, 3))[0]
    points = torch.tensor([[1.0, 2.0, 3.0], [1.0, 4.0, 3.0], [0.0, 2.0, 3.5]])
    expected = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 1.0, 0.5]])
    assert torch.allclose(in_bones(points, bones)[:, 7], expected, atol=1e-6)
    rays = directions_in_bones(torch.tensor([[0.0, 5.0, 0.0]]), bones)
    assert torch.allclose(rays[0, 11], torch.tensor([1.0, 0.0, 0.0]), atol=1e-6)


def test_cutoff_encoding_by_hand() -> None:
    encoding = CutoffEncoding(frequencies=2, per_joint=1)
    encoding.cutoff_dist.data[:] = 0.5
    encoding.tau.fill_(10.0)
    distances = torch.full((1, 24), 9.0)
    distances[0, 3] = 0.3
    features = encoding(distances, distances)
    assert features.shape == (1, 24 * 5) == (1, encoding.width)
    weight = 1 - 1 / (1 + math.exp(-10.0 * (0.3 - 0.5)))  # 0.8808
    assert weight == pytest.approx(0.880797, abs=1e-6)
    values = [0.3, math.sin(0.3), math.cos(0.3), math.sin(0.6), math.cos(0.6)]
    table = features.reshape(5, 24)  # plain, sin 1, cos 1, sin 2, cos 2; each over all joints
    assert torch.allclose(table[:, 3], weight * torch.tensor(values), atol=1e-6)
    others = table[:, [j for j in range(24) if j != 3]]
    assert others.abs().max() < 1e-6, "joints beyond the cut-off leave nothing"


def test_cutoff_leaves_plain_inputs_when_told() -> None:
    encoding = CutoffEncoding(frequencies=1, per_joint=1, cut_inputs=False)
    far = torch.full((1, 24), 50.0)
    assert torch.equal(encoding(far, far).reshape(3, 24)[0], far[0])


def test_directions_share_the_weight_of_their_joint() -> None:
    encoding = CutoffEncoding(frequencies=1, per_joint=3)
    distances = torch.full((1, 24), 9.0)
    distances[0, 5] = 0.0
    table = encoding(torch.ones(1, 72), distances).reshape(3, 24, 3)
    assert table[0, 5].min() > 0.99
    assert table[0, [4, 6]].max() < 1e-6


def test_frequency_schedule_brings_in_frequencies_one_by_one() -> None:
    encoding = CutoffEncoding(frequencies=3, per_joint=1, scheduled=True)
    assert encoding.sched_alpha is not None
    encoding.sched_alpha.fill_(1.5)
    near = torch.full((1, 24), 0.1)
    table = encoding(near, near).reshape(7, 24)[:, 0]
    weight = float(1 - torch.sigmoid(torch.tensor(20 * (0.1 - 0.5))))
    expected = [0.1, math.sin(0.1), math.cos(0.1), 0.5 * math.sin(0.2), 0.5 * math.cos(0.2), 0.0, 0.0]
    assert torch.allclose(table, weight * torch.tensor(expected), atol=1e-6)


def test_plain_encoding_without_frequencies_is_the_identity() -> None:
    values = torch.randn(4, 72, generator=torch.Generator().manual_seed(0))
    assert torch.equal(PlainEncoding(0, 3)(values, torch.zeros(4, 24)), values)


# --- rays ---


def test_cylinder_is_entered_and_left_where_geometry_says() -> None:
    cylinder = anerf_rays.Cylinder(torch.zeros(2), torch.tensor(1.0), torch.tensor(-1.0), torch.tensor(1.0))
    directions = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 2.0], [0.6 / 4, 0.0, 1.0]])
    near, far = anerf_rays.near_and_far(torch.tensor([0.0, 0.0, -4.0]), directions, cylinder)
    assert torch.allclose(near[:2], torch.tensor([3.0, 1.5]), atol=1e-5)
    assert torch.allclose(far[:2], torch.tensor([5.0, 2.5]), atol=1e-5)
    ends = torch.tensor([0.0, -4.0]) + directions[2, [0, 2]] * torch.stack([near[2], far[2]])[:, None]
    assert torch.allclose(ends.norm(dim=-1), torch.ones(2), atol=1e-5), "both ends lie on the mantle"


def test_rays_that_miss_take_the_mean_and_from_inside_start_at_zero() -> None:
    cylinder = anerf_rays.Cylinder(torch.zeros(2), torch.tensor(1.0), torch.tensor(-1.0), torch.tensor(1.0))
    directions = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.1]])
    near, far = anerf_rays.near_and_far(torch.tensor([0.0, 0.0, -4.0]), directions, cylinder)
    assert torch.allclose(near, torch.tensor([3.0, 3.0])) and torch.allclose(far, torch.tensor([5.0, 5.0]))
    near, far = anerf_rays.near_and_far(torch.zeros(3), torch.tensor([[0.0, 0.0, 1.0]]), cylinder)
    assert near.item() == 0 and far.item() == pytest.approx(1.0)


def test_importance_samples_go_where_the_weight_is() -> None:
    z = torch.linspace(2, 4, 21)[None]
    weights = torch.zeros(1, 21)
    weights[0, 10] = 1.0  # around z = 3
    merged = anerf_rays.importance_samples(z, weights, 16)
    assert merged.shape == (1, 37) and bool((merged[0, 1:] >= merged[0, :-1]).all())
    # One coarse sample lies there; of the new ones all but the two at the ends of the distribution.
    assert int(((merged > 2.949) & (merged < 3.051)).sum()) == 1 + 14


def test_volume_rendering_equals_a_direct_sum() -> None:
    generator = torch.Generator().manual_seed(1)
    density = 3 * torch.rand(5, 12, generator=generator, dtype=torch.float64)
    z = torch.rand(5, 12, generator=generator, dtype=torch.float64).sort(-1).values
    raw = torch.randn(5, 12, 4, generator=generator, dtype=torch.float64)
    length = 1 + torch.rand(5, generator=generator, dtype=torch.float64)
    colour, alpha = anerf_rays.composite(raw, anerf_rays.volume_weights(density, z, length))
    for ray in range(5):
        through, expected, covered = 1.0, np.zeros(3), 0.0
        for i in range(12):
            step = float(z[ray, i + 1] - z[ray, i]) if i < 11 else 1e10
            opaque = 1 - math.exp(-float(density[ray, i]) * step * float(length[ray]))
            shade = 1 / (1 + np.exp(-raw[ray, i, :3].numpy())) * 1.002 - 0.001
            expected += through * opaque * shade
            covered += through * opaque
            through *= 1 - opaque
        assert np.allclose(colour[ray].numpy(), expected, atol=1e-8)
        assert float(alpha[ray]) == pytest.approx(covered, abs=1e-8)


# --- the whole ---


@pytest.mark.parametrize(("frame", "name"), [(3, "frame_3"), (None, "mean_code")])
def test_renders_what_the_original_renders(tar: Path, frame: int | None, name: str) -> None:
    """`data/anerf_original.npz` is what LemonATsu/A-NeRF's own code made of the synthetic checkpoint and scene."""
    expected = torch.from_numpy(np.load(DATA / "anerf_original.npz")[name])
    assert expected[3].std() > 0.2, "the picture is no blank"
    rgb, alpha = load_anerf(tar, body=StickBody(), frame=frame)(anerf_scene())  # type: ignore[arg-type]
    assert (rgb[0] - expected[:3].clamp(0, 1)).abs().max() < 1e-4
    assert (alpha[0] - expected[3:]).abs().max() < 1e-4


def test_chunks_change_nothing_where_all_rays_meet_the_cylinder(tar: Path, renderer: ANerfRenderer) -> None:
    scene = anerf_scene()
    small = load_anerf(tar, body=StickBody(), frame=3, chunk=37)  # type: ignore[arg-type]
    inside = renderer(scene)[1][0, 0, 3:8, 2:8]
    assert torch.allclose(small(scene)[1][0, 0, 3:8, 2:8], inside, atol=1e-4)


def test_gradient_reaches_pose_shape_and_camera(renderer: ANerfRenderer) -> None:
    base = anerf_scene(8)
    pose, betas, focal = (value.clone().requires_grad_() for value in (base.pose, base.betas, base.camera.focal))
    t = base.camera.t.clone().requires_grad_()
    camera = type(base.camera)(base.camera.R, t, focal, base.camera.centre, 8, 8)
    scene = Scene(pose, betas, base.transl, camera, base.subject, base.light, base.background)
    rgb, _ = renderer(scene)
    rgb.square().sum().backward()
    for value in (pose, betas, t, focal):
        assert value.grad is not None and bool(torch.isfinite(value.grad).all())
    assert pose.grad[0].norm(dim=-1).count_nonzero() > 15  # type: ignore[index]
    assert betas.grad[0, 0] != 0 and t.grad.abs().min() > 0  # type: ignore[index, union-attr]


def test_gradient_of_shading_matches_finite_differences(renderer: ANerfRenderer) -> None:
    """At fixed samples, in double precision: the samples' places carry no gradient, as in the original."""
    renderer = deepcopy(renderer).double()
    rotations, joints, _ = renderer.skeleton(anerf_scene(8).to(torch.float64))
    bones = world_to_bones(rotations, joints)[0].detach().requires_grad_()
    origin = joints[0, 0].detach() + torch.tensor([0.0, 0.1, -3.0], dtype=torch.float64)
    directions = torch.tensor([[0.02, -0.05, 1.0], [0.1, 0.1, 1.0]], dtype=torch.float64)
    z = torch.linspace(2.4, 3.6, 24, dtype=torch.float64).expand(2, 24)

    def shade(moved: torch.Tensor) -> torch.Tensor:
        return renderer._shade(origin, directions, moved, z).sum()

    assert torch.autograd.gradcheck(shade, (bones,), eps=1e-7, atol=1e-4, fast_mode=True)


def test_scale_and_scene_conventions(renderer: ANerfRenderer) -> None:
    scene = anerf_scene()
    _, joints, scale = renderer.skeleton(scene)
    assert float(scale * mean_bone(JOINTS_M)) == pytest.approx(REFERENCE_BONE, rel=1e-5)
    # What the camera sees is what it sees of our own world.
    R, t = scene.camera.R @ renderer.half_turn, scale * scene.camera.t
    in_camera = joints @ R.transpose(1, 2) + t[:, None]
    pixels = in_camera[..., :2] / in_camera[..., 2:] * scene.camera.focal[:, None, None] + scene.camera.centre[:, None]
    own = (joints @ renderer.half_turn) / scale
    assert torch.allclose(pixels, scene.camera.project(own), atol=1e-3)


def test_body_behind_the_camera_gives_an_empty_picture(renderer: ANerfRenderer) -> None:
    scene = anerf_scene(8)
    away = type(scene.camera)(
        scene.camera.R, scene.camera.t * torch.tensor([1.0, 1.0, -1.0]), scene.camera.focal, scene.camera.centre, 8, 8
    )
    scene = Scene(scene.pose, scene.betas, scene.transl, away, scene.subject, scene.light, scene.background)
    rgb, alpha = renderer(scene)
    assert alpha.max() == 0 and rgb.max() == 0


def test_bad_scenes_are_named(renderer: ANerfRenderer) -> None:
    scene = anerf_scene(8)
    pose = scene.pose.clone()
    pose[0, 4, 1] = torch.nan
    broken = Scene(pose, scene.betas, scene.transl, scene.camera, scene.subject, scene.light, scene.background)
    with pytest.raises(PosegenError, match="pose is not finite"):
        renderer(broken)
    other = Scene(scene.pose, scene.betas, scene.transl, scene.camera, scene.subject + 1, scene.light, scene.background)
    with pytest.raises(PosegenError, match="unknown subject"):
        renderer(other)


# --- loading ---


def test_every_weight_is_loaded(tar: Path, renderer: ANerfRenderer) -> None:
    state = checkpoint_state()
    assert set(renderer.coarse.state_dict()) == set(state["network_fn_state_dict"])
    for module, key in ((renderer.coarse, "network_fn_state_dict"), (renderer.fine, "network_fine_state_dict")):
        for name, value in module.state_dict().items():
            assert torch.equal(value, state[key][name])
    assert float(renderer.encoding.distance.tau) == 40.0  # type: ignore[arg-type]
    assert isinstance(renderer.encoding.direction, PlainEncoding)
    widths = [e.width for e in (renderer.encoding.distance, renderer.encoding.direction, renderer.encoding.view)]
    assert widths == [360, 72, 648]
    assert not renderer.single_net


def test_own_skeleton_is_used_when_asked(tar: Path) -> None:
    assert torch.allclose(read_anerf(tar, ANerfConfig()).rest_pose, 0.65 * JOINTS_M)  # type: ignore[arg-type]
    own = load_anerf(tar, body=StickBody(), skeleton="checkpoint")  # type: ignore[arg-type]
    scene = anerf_scene()
    _, joints, _ = own.skeleton(scene)
    thigh = (joints[0, 4] - joints[0, 1]).norm()
    assert thigh == pytest.approx(float(0.65 * (JOINTS_M[4] - JOINTS_M[1]).norm()), rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network_fine_state_dict": {}}, "lacks"),
        ({"embed_state_dict": {"tau": torch.tensor(1.0)}}, "missing cutoff_dist"),
        ({"surprise_state_dict": {}}, "left over surprise_state_dict"),
    ],
)
def test_incomplete_checkpoints_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    path = write_checkpoint(tmp_path / "broken.tar", **change)
    with pytest.raises(CheckpointError, match=message):
        read_anerf(path, ANerfConfig())


def test_left_over_and_misshapen_weights_are_named(tmp_path: Path) -> None:
    state = checkpoint_state()
    state["network_fine_state_dict"]["extra.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "extra.tar")
    with pytest.raises(CheckpointError, match=r"left over extra\.weight"):
        read_anerf(tmp_path / "extra.tar", ANerfConfig())
    state = checkpoint_state()
    state["network_fine_state_dict"]["rgb_linear.weight"] = torch.zeros(4, 128)
    torch.save(state, tmp_path / "shape.tar")
    with pytest.raises(CheckpointError, match=r"rgb_linear\.weight is \(4, 128\), expected \(3, 128\)"):
        read_anerf(tmp_path / "shape.tar", ANerfConfig())
    state["network_fn_state_dict"]["pts_linears.0.weight"] = torch.zeros(4)
    torch.save(state, tmp_path / "shape.tar")
    with pytest.raises(CheckpointError, match=r"pts_linears\.0\.weight has shape \(4,\), expected two axes"):
        read_anerf(tmp_path / "shape.tar", ANerfConfig())


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        read_anerf(tmp_path / "none.tar", ANerfConfig())
    (tmp_path / "text.tar").write_text("hello")
    with pytest.raises(CheckpointError, match="no PyTorch checkpoint"):
        read_anerf(tmp_path / "text.tar", ANerfConfig())


def test_args_beside_the_checkpoint(tmp_path: Path, tar: Path) -> None:
    args = tmp_path / "args.txt"
    args.write_text("N_samples = 48\nN_importance = 8\ncutoff_inputs = False\ndensity_scale = 2.0\nexpname = s9\n")
    config = config_from_args(args)
    assert (config.N_samples, config.N_importance, config.cutoff_inputs, config.density_scale) == (48, 8, False, 2.0)
    args.write_text("kp_dist_type = relpos\n")
    with pytest.raises(CheckpointError, match="kp_dist_type = relpos"):
        config_from_args(args)
    with pytest.raises(ConfigError, match="renderer anerf has no option 'samples'; did you mean 'N_samples'"):
        load_anerf(tar, body=StickBody(), samples=3)  # type: ignore[arg-type]


def test_frame_codes_that_are_no_table_are_named(tmp_path: Path) -> None:
    for shape in ((), (3,)):
        state = checkpoint_state()
        network = next(part for part in state.values() if isinstance(part, dict) and "framecodes.codes.weight" in part)
        network["framecodes.codes.weight"] = torch.zeros(shape)
        torch.save(state, tmp_path / "1.tar")
        with pytest.raises(CheckpointError, match="framecodes have shape"):
            read_anerf(tmp_path / "1.tar", ANerfConfig())
