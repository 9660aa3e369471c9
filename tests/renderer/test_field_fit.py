"""Fitting a field: it learns what it is shown, resumes exactly, reads a user's folder, and reports honestly."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from capsule_scenes import JOINTS_M, RADIUS_M, capsule_field, capsule_rig, ends, random_scene, segment_distance

from posegen.errors import CheckpointError, ConfigError, DataError
from posegen.renderer.composite import over
from posegen.renderer.field.appearance import EMPTY, density
from posegen.renderer.field.artifact import load_field_file
from posegen.renderer.field.field import ArticulatedField
from posegen.renderer.fit.command import FitConfig, main, parse
from posegen.renderer.fit.fit import FLESH, HAZE, FieldFit, FitSchedule, Skin, sink_haze, start_near_surface
from posegen.renderer.fit.folder import read_views
from posegen.renderer.fit.quality import measure
from posegen.renderer.fit.views import FitViews

SCHEDULE = FitSchedule(steps=60, batch=4, save_every=10, warmup_share=0.5, last_threshold=0.5, coarse_share=0.0)


def views(count: int, seed: int, size: int = 32) -> FitViews:
    """Pictures of the analytic capsules."""
    scene = random_scene(count, size, seed)
    rgb, alpha = capsule_field(resolution=16)(scene)
    return FitViews(scene, rgb, alpha)


def new_field() -> ArticulatedField:
    return ArticulatedField([capsule_rig()], ["capsules"], 12)


def test_fit_learns_a_subject_from_its_views():
    held_out = views(6, seed=50)
    field = new_field()
    before, _ = measure(field, held_out)
    seconds = FieldFit(field, views(24, seed=1), SCHEDULE).run()
    after, images = measure(field, held_out)
    assert seconds > 0 and images.shape == (6, 3, 32, 32)
    assert after.iou > 0.7 and after.iou > before.iou + 0.3
    assert after.psnr_db > before.psnr_db + 5
    assert not field.table.requires_grad


def test_stopped_fit_resumes_to_the_same_field(tmp_path):
    data = views(8, seed=2, size=24)
    whole = new_field()
    schedule = replace(SCHEDULE, steps=24, batch=2, save_every=5)
    FieldFit(whole, data, schedule).run()

    def stop(done: int, total: int, loss: float) -> None:
        if done == 15:
            raise KeyboardInterrupt

    state = tmp_path / "fit.state"
    with pytest.raises(KeyboardInterrupt):
        FieldFit(new_field(), data, schedule, state).run(stop)
    resumed = new_field()
    fit = FieldFit(resumed, data, schedule, state)
    assert fit.load_state() and fit.step_index == 15
    fit.run()
    assert torch.equal(whole.table, resumed.table)


def test_state_of_another_field_is_refused(tmp_path):
    state = tmp_path / "fit.state"
    data = views(2, seed=2, size=16)
    FieldFit(new_field(), data, SCHEDULE, state).save_state()
    other = ArticulatedField([capsule_rig()], ["capsules"], 8)
    with pytest.raises(CheckpointError, match="another field"):
        FieldFit(other, data, SCHEDULE, state).load_state()
    state.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="cannot be read"):
        FieldFit(new_field(), data, SCHEDULE, state).load_state()


def test_quality_by_hand():
    """An error of 0.1 on every pixel is 20 dB; the foreground is the mask's half; masks that agree have IoU 1."""
    scene = random_scene(1, 16)
    alpha = torch.zeros(1, 1, 16, 16)
    alpha[..., :8] = 1
    truth = FitViews(scene, 0.5 * alpha.expand(1, 3, 16, 16).clone(), alpha)
    quality, _ = measure(lambda _: (truth.rgb + 0.1 * alpha, alpha), truth)
    assert quality.foreground_psnr_db == pytest.approx(20, abs=1e-3)
    assert quality.psnr_db == pytest.approx(20 + 10 * math.log10(2), abs=1e-3)
    assert quality.iou == 1
    half = alpha.clone()
    half[..., 4:8] = 0
    assert measure(lambda _: (truth.rgb * half, half), truth)[0].iou == pytest.approx(0.5)


def test_halved_views_look_through_the_same_camera():
    data = views(2, seed=3, size=32)
    small = data.halved()
    assert small.scene.camera.width == 16
    rendered, _ = capsule_field(resolution=16)(small.scene)
    assert (over(rendered, torch.zeros(1), torch.zeros(1)) - small.rgb).abs().mean() < 0.01


def test_start_has_flesh_under_the_skin_fog_around_it_and_nothing_further_off():
    """On the capsule of one bone, whose skin only its own volume may hold."""
    bone, volumes = 4, 24
    segment = ends(bone)
    generator = torch.Generator().manual_seed(0)
    along = segment[0] + torch.rand(6000, 1, generator=generator) * (segment[1] - segment[0])
    axis = torch.nn.functional.normalize(segment[1] - segment[0], dim=0)
    around = torch.randn(6000, 3, generator=generator)
    normals = torch.nn.functional.normalize(around - (around @ axis)[:, None] * axis, dim=1)
    follow = torch.zeros(6000, volumes)
    follow[:, bone] = 1
    field = ArticulatedField([capsule_rig()], ["capsules"], 24)
    start_near_surface(field, Skin(along + RADIUS_M * normals, normals, follow), reach_m=0.03, min_weight=0.1)
    voxels, points = field.voxels()[0].detach(), field.voxel_points() + JOINTS_M[field.rig_joint][:, None, None, None]
    others = torch.arange(volumes) != bone
    assert bool((voxels[others][..., 0] == EMPTY).all())
    inner = (slice(1, -1),) * 3  # the outermost voxels of a box are always empty
    raw, points = voxels[bone][inner], points[bone][inner]
    fraction = (points - segment[0]) @ axis / (segment[1] - segment[0]).norm()
    height = segment_distance(points, segment) - RADIUS_M
    beside = (fraction > 0.1) & (fraction < 0.9)
    flesh, fog, off = height < -0.013, height > -0.007, height.abs() > 0.033
    assert all(int((beside & where).sum()) > 20 for where in (flesh & ~off, fog & ~off, off))
    assert bool((raw[beside & flesh & (height > -0.027)][:, 0] == FLESH).all())
    assert bool((raw[beside & fog & (height < 0.027)][:, 0] == -2.0).all())
    assert bool((raw[beside & off][:, 0] == EMPTY).all())
    near = beside & (height.abs() < 0.027)
    outward = torch.nn.functional.normalize(
        points - segment[0] - fraction[..., None] * (segment[1] - segment[0]), dim=-1
    )
    assert float((raw[near][:, 4:7] * outward[near]).sum(-1).min()) > 0.9


def test_haze_sinks_and_skin_stays():
    field = capsule_field()
    raw = field.table[:, 0].clone()
    sink_haze(field, 1.0)
    dense = density(raw) >= 1.0
    assert torch.equal(field.table[dense, 0], raw[dense])
    assert float(field.table[~dense, 0].max()) <= HAZE


def write_folder(folder, data: FitViews) -> dict[str, np.ndarray]:
    from PIL import Image

    camera, light = data.scene.camera, data.scene.light
    names = np.array([f"view_{i:03d}" for i in range(len(data))])
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    white = over(data.rgb, data.alpha, torch.ones(1, 3, 1, 1))
    for i, name in enumerate(names):
        pixels = (white[i].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
        Image.fromarray((data.alpha[i, 0] * 255).round().byte().numpy()).save(folder / "masks" / f"{name}.png")
    arrays = {
        "name": names, "pose": data.scene.pose.numpy(), "betas": data.scene.betas.numpy(),
        "transl": data.scene.transl.numpy(), "R": camera.R.numpy(), "t": camera.t.numpy(),
        "focal": camera.focal.numpy(), "centre": camera.centre.numpy(),
        "light": torch.cat([light.direction, light.ambient[:, None], light.diffuse[:, None]], 1).numpy(),
    }  # fmt: skip
    np.savez(folder / "views.npz", **arrays)
    return arrays


def test_folder_of_views_is_read_back(tmp_path):
    data = views(3, seed=4, size=32)
    write_folder(tmp_path / "me", data)
    read = read_views(tmp_path / "me", 16, 100)
    assert read.scene.camera.width == 16 and torch.allclose(read.scene.camera.focal, data.scene.camera.focal / 2)
    assert torch.allclose(read.scene.pose, data.scene.pose)
    assert torch.allclose(read.alpha, data.halved().alpha, atol=0.01)
    quality, _ = measure(capsule_field(resolution=16), read)
    assert quality.iou > 0.8  # the field that made the pictures fits the cameras that were read


def test_broken_folders_are_told_apart(tmp_path):
    with pytest.raises(DataError, match=r"no views\.npz"):
        read_views(tmp_path, 16, 100)
    arrays = write_folder(tmp_path / "me", views(2, seed=4, size=16))
    (tmp_path / "me" / "masks" / "view_001.png").unlink()
    with pytest.raises(DataError, match="no picture for view 'view_001'"):
        read_views(tmp_path / "me", 16, 100)
    np.savez(tmp_path / "me" / "views.npz", **(arrays | {"R": arrays["R"][:, :2]}))
    with pytest.raises(DataError, match="R has shape"):
        read_views(tmp_path / "me", 16, 100)
    np.savez(tmp_path / "me" / "views.npz", name=arrays["name"])
    with pytest.raises(DataError, match="lacks betas, pose"):
        read_views(tmp_path / "me", 16, 100)


def test_command_line_words():
    config = parse(["subjects=[amber]", "schedule.steps=7", "renderer.step_m=0.01", "half_joints=[]"])
    assert config.subjects == ("amber",) and config.schedule.steps == 7 and config.half_joints == ()
    assert config.renderer.step_m == 0.01
    with pytest.raises(ConfigError, match="did you mean 'views'"):
        parse(["viwes=3"])
    with pytest.raises(ConfigError, match=r"unknown key 'schedule\.stesp'; did you mean 'steps'"):
        parse(["schedule.stesp=3"])
    with pytest.raises(ConfigError, match="cannot be read"):
        parse(["subjects=[amber"])
    with pytest.raises(ConfigError, match="key=value"):
        parse(["amber"])
    with pytest.raises(ConfigError, match="one subject"):
        FitConfig(folder="somewhere")


@pytest.mark.slow
def test_fit_subject_of_the_package(tmp_path, capsys):
    words = ["subjects=[amber]", "views=40", "held_out_views=6", "size_px=48", "resolution=16", "schedule.steps=60"]
    assert main([*words, f"output={tmp_path}"]) == 0
    assert "foreground PSNR" in capsys.readouterr().out
    assert (tmp_path / "amber.npz").exists() and (tmp_path / "amber.png").exists()


FIT_AND_TELL_MEMORY = """
import sys
from posegen.renderer.fit.command import main
status = main(sys.argv[1:])
sys.path.append({tests!r})
from peak import peak_bytes
print("peak", peak_bytes() // 2**20)
sys.exit(status)
"""


@pytest.mark.slow
def test_fit_at_512_px_works_on_the_cpu_in_bounded_memory(tmp_path):
    """Two steps at full size, in a process of its own so that its memory can be told: the fog is still everywhere."""
    words = [
        "subjects=[amber]", "size_px=512", "views=4", "held_out_views=1", "schedule.steps=2", "schedule.batch=2",
        "schedule.coarse_share=0.0", f"output={tmp_path}",
    ]  # fmt: skip
    code = FIT_AND_TELL_MEMORY.format(tests=str(Path(__file__).parents[1]))
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    peak_mb = int(done.stdout.rsplit("peak ", 1)[1])
    assert peak_mb < 1500
    (report,) = json.loads((tmp_path / "report.json").read_text())
    assert report["size_px"] == 512 and math.isfinite(report["psnr_db"])
    assert load_field_file(tmp_path / "amber.npz").subjects == ("amber",)


@pytest.mark.slow
def test_shipped_subjects_look_like_their_meshes():
    """The package's fields against the reference renderer, on poses and views drawn for this test."""
    from posegen.body.subjects import TRAIN_SUBJECTS, load_subjects
    from posegen.renderer.field.artifact import load_field
    from posegen.renderer.field.config import FieldConfig
    from posegen.renderer.fit.views import mesh_scene, render_views

    assert load_field().subjects == TRAIN_SUBJECTS
    for subject in load_subjects(TRAIN_SUBJECTS):
        field = load_field(None, FieldConfig(subjects=(subject.name,)))
        data = render_views(subject, mesh_scene(subject, 12, 96, seed=77, split="held_out"), 3)
        quality, _ = measure(field, data)
        assert quality.iou > 0.97 and quality.foreground_psnr_db > 23.5, f"{subject.name}: {quality}"
