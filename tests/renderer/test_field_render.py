"""The articulated field: backends agree, gradients are those of the true picture, bad input is told apart."""

from __future__ import annotations

import logging
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from capsule_scenes import capsule_field, random_scene
from hypothesis import given, settings
from hypothesis import strategies as st

from posegen import compiled
from posegen.body.rotations import aa_to_matrix
from posegen.compiled import NativeUnavailable
from posegen.errors import ConfigError, PosegenError
from posegen.renderer.field import native, native_render
from posegen.renderer.field.appearance import EMPTY
from posegen.renderer.field.artifact import with_config
from posegen.renderer.field.codes import encode
from posegen.renderer.field.config import FieldConfig
from posegen.renderer.field.field import ArticulatedField, load_field
from posegen.renderer.field.native import load_kernel
from posegen.renderer.field.native_render import render_fused
from posegen.renderer.field.transforms import ray_transforms
from posegen.renderer.field.volumes import VolumeRig
from posegen.scene import Camera, Renderer, Scene

EPS = 1e-3


@pytest.fixture(scope="module")
def field():
    return capsule_field(subjects=2, resolution=16)


def has_kernel() -> bool:
    try:
        load_kernel()
    except NativeUnavailable:
        return False
    return True


def leaves(scene: Scene) -> tuple[dict[str, torch.Tensor], Scene]:
    camera, light = scene.camera, scene.light
    values = {
        "pose": scene.pose, "betas": scene.betas, "transl": scene.transl, "R": camera.R, "t": camera.t,
        "focal": camera.focal, "centre": camera.centre, "direction": light.direction, "ambient": light.ambient,
        "diffuse": light.diffuse,
    }  # fmt: skip
    x = {name: value.clone().requires_grad_() for name, value in values.items()}
    camera = replace(camera, R=x["R"], t=x["t"], focal=x["focal"], centre=x["centre"])
    light = replace(light, direction=x["direction"], ambient=x["ambient"], diffuse=x["diffuse"])
    return x, replace(scene, pose=x["pose"], betas=x["betas"], transl=x["transl"], camera=camera, light=light)


def test_is_a_renderer_with_pictures_in_range(field):
    assert isinstance(field, Renderer)
    rgb, alpha = field(random_scene(3, 40, subjects=2))
    assert rgb.shape == (3, 3, 40, 40) and alpha.shape == (3, 1, 40, 40)
    assert rgb.min() >= 0 and alpha.min() >= 0 and alpha.max() <= 1
    assert bool((rgb <= alpha + 1e-5).all())  # premultiplied, with light that does not exceed one
    assert 0.02 < alpha.mean() < 0.5


@pytest.mark.parametrize("bend", [False, True], ids=["rigid", "bending"])
def test_fused_equals_eager_in_picture_and_every_gradient(bend):
    if not has_kernel():  # the fallback is covered by its own test
        return
    config = FieldConfig(transmittance_threshold=3e-5)
    field = capsule_field(2, 16, config, ("left_knee", "right_elbow"), bend).requires_grad_(True)
    scene = random_scene(3, 48, seed=5, subjects=2)
    weight = torch.randn(3, 4, 48, 48, generator=torch.Generator().manual_seed(0))
    pictures, gradients = {}, {}
    for backend in ("eager", "fused"):
        with_config(field, backend=backend)
        x, scene_x = leaves(scene)
        field.table.grad = None
        picture = torch.cat(field(scene_x), 1)
        (picture * weight).sum().backward()
        pictures[backend] = picture.detach()
        gradients[backend] = {name: value.grad for name, value in x.items()} | {"table": field.table.grad}
    assert (pictures["eager"] - pictures["fused"]).abs().max() < 1e-4
    for name, eager in gradients["eager"].items():
        assert (gradients["fused"][name] - eager).norm() / eager.norm() < 1e-3, name


def rows_of(rig: VolumeRig, rows: list[int]) -> VolumeRig:
    """Some of a rig's volumes, or one of them twice."""
    values = {f.name: getattr(rig, f.name) for f in fields(VolumeRig)}
    return VolumeRig(**{name: x if name.startswith("joints") else x[rows] for name, x in values.items()})


def test_as_many_volumes_as_the_march_tells_apart_and_no_more():
    """256 copies of the bones' volumes: the last of them is where the picture comes from."""
    bones = capsule_field(resolution=8, config=FieldConfig(transmittance_threshold=3e-5))
    rows = torch.cat([torch.arange(24).repeat(10)[:232], torch.arange(24)])
    rig = rows_of(bones.rig(0), rows.tolist())
    scene = random_scene(2, 32, seed=6)
    expected = bones(scene)
    for backend in ("eager", "auto"):
        many = ArticulatedField([rig], ["capsules_0"], 8, FieldConfig(backend=backend, transmittance_threshold=3e-5))
        with torch.no_grad():
            many.table[:, 0] = EMPTY
            many.voxels()[0, -24:] = bones.voxels()[0]
        many.update_occupancy()
        for found, wanted in zip(many.requires_grad_(False)(scene), expected, strict=True):
            assert (found - wanted).abs().max() < 1e-4
    with pytest.raises(ConfigError, match="257 volumes; a subject can have 256"):
        ArticulatedField([rows_of(rig, [*range(256), 0])], ["more"], 8)


def test_a_ray_ends_between_two_steps_of_the_lattice_and_never_within_one():
    """Of eleven copies of a volume every step has eleven samples or none, also where a block of eight ends it."""
    if not has_kernel():
        return
    one = capsule_field(resolution=16)
    field = ArticulatedField([rows_of(one.rig(0), [3] * 11)], ["copies"], 16)
    with torch.no_grad():
        field.voxels()[0, :] = one.voxels()[0, 3]
    field.update_occupancy()
    transforms = ray_transforms(random_scene(2, 48, seed=3), field.rigs, 16)
    samples = []
    for threshold in (0.8, 0.4, 0.2, 0.0):
        config = FieldConfig(transmittance_threshold=threshold)
        out = render_fused(transforms, field.table, field.occupancy, config, field.layout)
        samples.append(load_kernel().posegen_samples(out.grad_fn.record.address))
    assert samples[0] > 1000 and samples == sorted(set(samples))
    assert all(count % 11 == 0 for count in samples)


def test_without_vector_instructions_the_kernel_gives_the_same(field, monkeypatch):
    if not has_kernel():
        return
    scene = random_scene(3, 40, seed=8, subjects=2)

    def result() -> list[torch.Tensor]:
        x, scene_x = leaves(scene)
        picture = torch.cat(field(scene_x), 1)
        picture.square().sum().backward()
        return [picture.detach(), *(value.grad for value in x.values())]

    native_kernel = result()
    monkeypatch.setattr(compiled, "FLAGS", tuple(flag for flag in compiled.FLAGS if flag != "-march=native"))
    plain = native.load_kernel.__wrapped__()
    monkeypatch.setattr(native_render, "load_kernel", lambda: plain)
    for found, expected in zip(result(), native_kernel, strict=True):
        assert (found - expected).norm() <= 1e-4 * expected.norm()


def test_codes_render_as_the_table_they_decode_to():
    """The fused kernel reads a frozen field's eight-bit codes: same picture, same gradients as from floats."""
    field = capsule_field(2, 16)
    field.set_codes(encode(field.table.detach()))
    scene = random_scene(3, 48, seed=6, subjects=2)
    pictures, gradients = [], []
    for backend in ("auto", "eager"):
        with_config(field, backend=backend, transmittance_threshold=3e-5)
        assert field.codes is not None
        x, scene_x = leaves(scene)
        picture = torch.cat(field(scene_x), 1)
        picture.square().sum().backward()
        pictures.append(picture.detach())
        gradients.append({name: value.grad for name, value in x.items()})
    assert (pictures[0] - pictures[1]).abs().max() < 1e-4
    for name, value in gradients[1].items():
        assert (gradients[0][name] - value).norm() / value.norm() < 1e-3, name


def test_codes_are_dropped_when_the_table_changes():
    field = capsule_field(1, 8)
    field.set_codes(encode(field.table.detach()))
    before = field(random_scene(1, 24))[1]
    with torch.no_grad():
        field.table[:, 0] = -12
    field.update_occupancy()
    assert field.codes is None and before.sum() > 0
    assert field(random_scene(1, 24))[1].sum() < 1e-2


def test_fused_does_not_depend_on_threads(field):
    scene = random_scene(4, 32, seed=2, subjects=2)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            x, scene_x = leaves(scene)
            torch.cat(field(scene_x), 1).square().sum().backward()
            results.append(x["pose"].grad)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])


@pytest.fixture(scope="module", params=[False, True], ids=["rigid", "bending"])
def fine_field(request):
    return capsule_field(resolution=16, config=FieldConfig(step_m=0.01, backend="eager"), bend=request.param).double()


def moved(scene: Scene, name: str, by: torch.Tensor) -> Scene:
    camera = scene.camera
    if name in ("pose", "betas", "transl"):
        return replace(scene, **{name: getattr(scene, name) + by})
    if name == "rotation":
        return replace(scene, camera=replace(camera, R=aa_to_matrix(by) @ camera.R))
    value = getattr(camera, name)
    scale = {"t": 1.0, "focal": camera.focal, "centre": camera.width}[name]
    return replace(scene, camera=replace(camera, **{name: value + scale * by}))


@pytest.mark.parametrize("name", ["pose", "betas", "transl", "rotation", "t", "focal", "centre"])
def test_gradient_is_that_of_the_true_picture(fine_field, name):
    """Central differences of the whole renderer, samples found again: cosine of 0.99 over several random scenes."""
    batch = 4
    scene = random_scene(batch, 40, seed=3, dtype=torch.float64)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        near = 0.15 * torch.randn(batch, 24, 3, generator=generator).double()
        target, _ = fine_field(replace(scene, pose=scene.pose + near))

    def loss(changed: Scene) -> torch.Tensor:
        return ((fine_field(changed)[0] - target) ** 2).sum((1, 2, 3))

    shapes = {"pose": (batch, 24, 3), "betas": (batch, 10), "focal": (batch,), "centre": (batch, 2)}
    shape = shapes.get(name, (batch, 3))
    x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(moved(scene, name, x)).sum(), x)
    analytic, numeric = [], []
    for _ in range(3):
        direction = torch.randn(shape, generator=generator).double() * (0.3 if name == "pose" else 1.0)
        analytic.append((gradient * direction).reshape(batch, -1).sum(1))
        with torch.no_grad():
            change = loss(moved(scene, name, EPS * direction)) - loss(moved(scene, name, -EPS * direction))
        numeric.append(change / (2 * EPS))
    assert F.cosine_similarity(torch.cat(analytic), torch.cat(numeric), 0) > 0.99
    assert 0.9 < torch.cat(analytic).norm() / torch.cat(numeric).norm() < 1.1


@pytest.mark.slow
@pytest.mark.parametrize(("eps", "least"), [(1e-3, 0.95), (1e-4, 0.99)])
def test_gradient_of_a_shipped_subject(eps, least):
    """A fitted field is rougher than capsules: its slope changes from voxel to voxel, so that differences over 1 mm
    average what the gradient tells apart. Over a tenth of that both agree."""
    field = load_field(None, FieldConfig(backend="eager", step_m=0.01)).double()
    scene = random_scene(6, 64, seed=3, subjects=len(field.subjects), dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        near = 0.15 * torch.randn(6, 24, 3, generator=generator).double()
        target, _ = field(replace(scene, pose=scene.pose + near))

    def loss(pose: torch.Tensor) -> torch.Tensor:
        return ((field(replace(scene, pose=pose))[0] - target) ** 2).sum((1, 2, 3))

    pose = scene.pose.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(pose).sum(), pose)
    analytic, numeric = [], []
    for _ in range(3):
        direction = 0.3 * torch.randn(6, 24, 3, generator=generator).double()
        analytic.append((gradient * direction).sum((1, 2)))
        with torch.no_grad():
            numeric.append((loss(scene.pose + eps * direction) - loss(scene.pose - eps * direction)) / (2 * eps))
    assert F.cosine_similarity(torch.cat(analytic), torch.cat(numeric), 0) > least


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pose", "rotation", "transl"])
def test_difference_of_a_shipped_subject_is_its_gradient_averaged_over_the_path(name):
    """A difference over 1 mm is the mean of the slopes between its ends (Gauss-Legendre), plus what samples that come
    and go add without a slope. The latter is the gradient's bias; the roughness of a fitted field is not."""
    field = load_field(None, FieldConfig(backend="eager")).double()
    batch = 3
    scene = random_scene(batch, 64, seed=3, subjects=len(field.subjects), dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        near = 0.15 * torch.randn(batch, 24, 3, generator=generator).double()
        target, _ = field(replace(scene, pose=scene.pose + near))

    def loss(changed: Scene) -> torch.Tensor:
        return ((field(changed)[0] - target) ** 2).sum((1, 2, 3))

    shape = (batch, 24, 3) if name == "pose" else (batch, 3)
    nodes, weights = np.polynomial.legendre.leggauss(16)
    averaged, numeric = [], []
    for _ in range(2):
        direction = torch.randn(shape, generator=generator).double() * (0.3 if name == "pose" else 1.0)
        slopes = torch.zeros(batch, dtype=torch.float64)
        for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
            x = (node * EPS * direction).requires_grad_()
            (gradient,) = torch.autograd.grad(loss(moved(scene, name, x)).sum(), x)
            slopes += 0.5 * weight * (gradient * direction).reshape(batch, -1).sum(1)
        averaged.append(slopes)
        with torch.no_grad():
            change = loss(moved(scene, name, EPS * direction)) - loss(moved(scene, name, -EPS * direction))
        numeric.append(change / (2 * EPS))
    a, b = torch.cat(averaged), torch.cat(numeric)
    assert F.cosine_similarity(a, b, 0) > 0.995 and 0.93 < a.norm() / b.norm() < 1.05


def test_gradient_moves_the_body_towards_the_target(field):
    """Descending the picture's error recovers a translation of 6 cm (its part along the view only roughly)."""
    scene = random_scene(2, 48, seed=9)
    with torch.no_grad():
        target = torch.cat(field(scene), 1)
    offset = torch.tensor([[0.06, 0.0, 0.0], [0.0, 0.06, 0.0]], requires_grad=True)
    optimizer = torch.optim.Adam([offset], lr=0.01)
    for _ in range(25):
        optimizer.zero_grad()
        (torch.cat(field(replace(scene, transl=scene.transl + offset)), 1) - target).square().sum().backward()
        optimizer.step()
    assert offset.detach().norm(dim=1).max() < 0.035


def test_light_brightens_the_side_it_comes_from(field):
    scene = random_scene(1, 64, seed=1)
    scene = replace(scene, light=replace(scene.light, ambient=torch.zeros(1), diffuse=torch.ones(1)))
    right = scene.camera.R[:, 0]  # the camera's right, in the world
    lit = [field(replace(scene, light=replace(scene.light, direction=s * right)))[0].mean(1)[0] for s in (1, -1)]
    columns = torch.arange(64.0)
    middle = [(image.sum(0) * columns).sum() / image.sum() for image in lit]
    assert middle[0] > middle[1]


def test_first_beta_scales_the_body(field):
    """The capsules' first beta stretches by 4 % a unit in all directions."""
    scene = random_scene(1, 96, seed=4)
    camera = Camera(torch.diag(torch.tensor([1.0, -1.0, -1.0]))[None], torch.tensor([[0.0, -0.15, 4.0]]),
                    torch.tensor([150.0]), torch.tensor([[48.0, 48.0]]), 96, 96)  # fmt: skip
    scene = replace(scene, camera=camera, pose=torch.zeros(1, 24, 3), transl=torch.zeros(1, 3))
    heights = []
    for beta in (-2.0, 2.0):
        betas = torch.zeros(1, 10)
        betas[0, 0] = beta
        rows = (field(replace(scene, betas=betas))[1][0, 0] > 0.5).any(1).nonzero()
        heights.append(float(rows.max() - rows.min()))
    assert heights[1] / heights[0] == pytest.approx(1.08 / 0.92, abs=0.05)


def test_body_behind_the_camera_or_beside_it_is_empty(field):
    scene = random_scene(2, 32)
    t = torch.tensor([[0.0, 0.0, -3.0], [50.0, 0.0, 3.0]])
    for backend in ("auto", "eager"):
        rgb, alpha = with_config(field, backend=backend)(replace(scene, camera=replace(scene.camera, t=t)))
        assert rgb.abs().max() == 0 and alpha.abs().max() == 0
    with_config(field, backend="auto")


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 1000), st.floats(-3, 3), st.floats(-1e4, 1e4), st.floats(0.1, 1e4), st.floats(-30, 30),
    st.sampled_from(["auto", "eager"]),
)  # fmt: skip
def test_pictures_and_gradients_are_finite_wherever_the_camera_is(seed, x, z, focal, beta, backend):
    """Also inside the body (near 0), far off, and for shapes beyond all people."""
    field = with_config(capsule_field(resolution=8), backend=backend)
    scene = random_scene(1, 12, seed)
    camera = replace(scene.camera, t=torch.tensor([[x, 0.1, z]]), focal=torch.tensor([focal]))
    inputs, scene = leaves(replace(scene, camera=camera, betas=beta * torch.ones(1, 10)))
    picture = torch.cat(field(scene), 1)
    picture.sum().backward()
    assert bool(torch.isfinite(picture).all()) and picture.min() >= 0 and picture[:, 3].max() <= 1 + 1e-5
    assert all(bool(torch.isfinite(value.grad).all()) for value in inputs.values() if value.grad is not None)


def test_camera_inside_the_body_sees_a_finite_picture(field):
    scene = random_scene(1, 16)
    camera = replace(scene.camera, R=torch.eye(3)[None], t=-scene.transl)
    rgb, alpha = field(replace(scene, camera=camera))
    assert bool(torch.isfinite(rgb).all()) and bool(torch.isfinite(alpha).all())


@pytest.mark.parametrize(("name", "row"), [("pose", 1), ("betas", 0), ("transl", 2)])
def test_non_finite_rows_are_named(field, name, row):
    scene = random_scene(3, 16)
    value = getattr(scene, name).clone()
    value[row] = float("nan")
    with pytest.raises(PosegenError, match=rf"{name} is not finite in row\(s\) {row}"):
        field(replace(scene, **{name: value}))


def test_bad_cameras_subjects_and_sizes_are_refused(field):
    scene = random_scene(2, 16)
    camera = scene.camera
    with pytest.raises(PosegenError, match=r"camera.t is not finite in row\(s\) 0, 1"):
        field(replace(scene, camera=replace(camera, t=camera.t * float("inf"))))
    with pytest.raises(PosegenError, match=r"focal is not positive in row\(s\) 1"):
        field(replace(scene, camera=replace(camera, focal=torch.tensor([16.0, 0.0]))))
    with pytest.raises(PosegenError, match="no area"):
        field(replace(scene, camera=replace(camera, height=0)))
    with pytest.raises(PosegenError, match=r"unknown subject index(.|\n)*0 \(capsules_0\), 1 \(capsules_1\)"):
        field(replace(scene, subject=torch.tensor([0, 7])))
    with pytest.raises(PosegenError, match="pose has shape"):
        field(replace(scene, pose=scene.pose[:, :23]))


def test_empty_batch_gives_an_empty_picture(field):
    rgb, alpha = field(random_scene(2, 16)[:0])
    assert rgb.shape == (0, 3, 16, 16) and alpha.shape == (0, 1, 16, 16)


def test_without_a_compiler_eager_takes_over_and_says_so_once(field, monkeypatch, caplog):
    def unavailable():
        raise NativeUnavailable("there is no C++ compiler here; install g++")

    monkeypatch.setattr(native_render, "load_kernel", unavailable)
    monkeypatch.setattr(compiled, "_said", set())
    scene = random_scene(1, 16)
    with caplog.at_level(logging.INFO):
        field(scene)
        field(scene)
    messages = [record.message for record in caplog.records if "eager" in record.message]
    assert len(messages) == 1 and "install g++" in messages[0]
    with_config(field, backend="fused")
    with pytest.raises(PosegenError, match="cannot be had"):
        field(scene)
    with_config(field, backend="auto")


def test_subjects_differ_and_order_in_the_batch_does_not_matter(field):
    scene = random_scene(4, 24, subjects=2)
    rgb, _ = field(scene)
    order = torch.tensor([3, 1, 0, 2])
    assert torch.equal(field(scene[order])[0], rgb[order])
    assert not torch.equal(field(replace(scene, subject=1 - scene.subject))[0], rgb)
