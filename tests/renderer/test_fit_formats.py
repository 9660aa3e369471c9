"""Views in other projects' layouts: A-NeRF's HDF5 and SURREAL's clips, written here as the originals write them."""

from __future__ import annotations

import builtins
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from capsule_scenes import capsule_faces, capsule_field, capsule_rig, capsule_skin, random_scene
from scipy.spatial.transform import Rotation
from torch import Tensor

from posegen.body.kinematics import forward_kinematics
from posegen.body.rotations import aa_to_matrix
from posegen.errors import DataError
from posegen.renderer.field.volumes import rest_joints
from posegen.renderer.fit.anerf_views import read_anerf_h5
from posegen.renderer.fit.command import FitConfig, fit_subjects, user_views
from posegen.renderer.fit.fit import FitSchedule
from posegen.renderer.fit.quality import measure
from posegen.renderer.fit.surreal import read_surreal
from posegen.renderer.fit.views import FitViews
from posegen.scene import Camera, Light, Scene

ANERF_UNIT_M = 1 / 0.4


class CapsuleBody:
    """The part of a body model that the readers use, for the capsules."""

    def __init__(self) -> None:
        self.rig = capsule_rig()

    def rest_joints(self, betas: Tensor) -> Tensor:
        return rest_joints(self.rig.joints_template, self.rig.joints_shapedirs, betas)


BODY = CapsuleBody()


def evenly_lit(scene: Scene) -> Scene:
    count = len(scene)
    return replace(scene, light=Light(torch.tensor([[0.0, 1.0, 0.0]]).expand(count, 3), torch.ones(count),
                                      torch.zeros(count)))  # fmt: skip


def joints_of(scene: Scene) -> Tensor:
    """(B,24,3) m, world."""
    _, joints = forward_kinematics(aa_to_matrix(scene.pose), BODY.rest_joints(scene.betas))
    return joints + scene.transl[:, None]


def write_anerf(path: Path, views: FitViews, poses: int, background: float = 0.3) -> None:
    """As A-NeRF's write_to_h5py: lengths in its own unit, OpenGL cameras, pixels counted from their corners."""
    scene, (height, width) = views.scene, views.rgb.shape[-2:]
    pixels = views.rgb + background * (1 - views.alpha)
    flip = np.diag([1.0, -1.0, -1.0])
    c2ws = np.tile(np.eye(4), (len(views), 1, 1))
    R, t = scene.camera.R.numpy(), scene.camera.t.numpy()
    c2ws[:, :3, :3] = R.transpose(0, 2, 1) @ flip
    c2ws[:, :3, 3] = -np.einsum("nji,nj->ni", R, t) / ANERF_UNIT_M
    with h5py.File(path, "w") as file:
        file["img_shape"] = np.array([len(views), height, width, 3], np.int32)
        file["imgs"] = (255 * pixels).round().byte().flatten(2).transpose(1, 2).numpy()
        file["masks"] = (views.alpha > 0.5).byte().flatten(2).transpose(1, 2).numpy()
        file["bones"] = scene.pose[:poses].numpy()
        file["kp3d"] = joints_of(scene)[:poses].numpy() / ANERF_UNIT_M
        file["rest_pose"] = BODY.rest_joints(scene.betas[:1])[0].numpy() / ANERF_UNIT_M
        file["betas"] = scene.betas[:1].numpy()
        file["c2ws"] = c2ws.astype(np.float32)
        file["focals"] = scene.camera.focal.numpy()
        file["centers"] = scene.camera.centre.numpy() - 0.5
        file["ext_scale"] = 0.001


def anerf_views(count: int, poses: int, size: int = 40) -> FitViews:
    """View i shows pose i mod poses, as in A-NeRF's files; all of one shape."""
    scene = evenly_lit(random_scene(count, size, seed=21))
    index = torch.arange(count) % poses
    scene = replace(scene, pose=scene.pose[index], transl=scene.transl[index], betas=scene.betas[:1].expand(count, -1))
    rgb, alpha = capsule_field(resolution=16)(scene)
    return FitViews(scene, rgb, alpha)


def test_anerf_file_is_read_back_in_metres_and_in_place(tmp_path):
    views = anerf_views(6, poses=3)
    write_anerf(tmp_path / "me.h5", views, 3)
    read = read_anerf_h5(tmp_path / "me.h5", BODY, 40, 100)
    assert len(read) == 6
    for name in ("pose", "betas", "transl"):
        assert torch.allclose(getattr(read.scene, name), getattr(views.scene, name), atol=1e-4), name
    for name in ("R", "t", "focal", "centre"):
        assert torch.allclose(getattr(read.scene.camera, name), getattr(views.scene.camera, name), atol=1e-3), name
    solid = views.alpha > 0.99
    assert (read.rgb - views.rgb).abs()[solid.expand_as(read.rgb)].max() < 0.01
    assert torch.equal(read.alpha, (views.alpha > 0.5).float())
    quality, _ = measure(capsule_field(resolution=16), read)
    assert quality.iou > 0.97
    few = read_anerf_h5(tmp_path / "me.h5", BODY, 20, 3)  # the first, the middle and the last
    assert few.rgb.shape == (3, 3, 20, 20) and torch.equal(few.scene.pose[2], read.scene.pose[5])
    assert torch.allclose(few.scene.camera.focal, read.scene.camera.focal[[0, 2, 5]] / 2)


def test_anerf_file_without_centres_looks_through_half_the_picture(tmp_path):
    """A-NeRF's ray of pixel (i, j) is that of (i - W/2, j - H/2): half a pixel off a pixel's centre."""
    write_anerf(tmp_path / "me.h5", anerf_views(2, poses=2), 2)
    with h5py.File(tmp_path / "me.h5", "a") as file:
        del file["centers"], file["betas"]
    read = read_anerf_h5(tmp_path / "me.h5", BODY, 40, 100)
    assert torch.equal(read.scene.camera.centre, torch.full((2, 2), 20.5))
    assert read.scene.betas.abs().max() == 0


def test_broken_anerf_files_are_told_apart(tmp_path):
    path = tmp_path / "me.h5"
    path.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="no HDF5 file"):
        read_anerf_h5(path, BODY, 40, 100)
    for name, value, message in (
        ("c2ws", np.zeros((2, 3, 4)), r"c2ws has shape \(2, 3, 4\)"),
        ("bones", np.full((2, 24, 3), np.nan), "bones holds values that are not finite"),
        ("focals", np.ones((2, 2)), "focals holds 4 numbers, expected 2"),
        ("masks", np.zeros((2, 7, 1), np.uint8), "masks has shape"),
        ("kp3d", None, "lacks kp3d"),
    ):
        write_anerf(path, anerf_views(2, poses=2), 2)
        with h5py.File(path, "a") as file:
            del file[name]
            if value is not None:
                file[name] = value
        with pytest.raises(DataError, match=message):
            read_anerf_h5(path, BODY, 40, 100)


def write_clip(folder: Path, name: str, frames: int, seed: int) -> Scene:
    """A clip of the capsules as SURREAL stores it; returns the truth.

    World and camera as in its smpl_relations.py: the root turned by Rx(90) Rz(zrot), a camera that looks along -x.
    """
    import av

    rng = np.random.default_rng(seed)
    pose = 0.2 * rng.normal(size=(frames, 24, 3))
    zrot, place = rng.uniform(0, 6), np.array([[7.0], [-0.1], [0.2]])
    upright = Rotation.from_euler("x", 90, degrees=True)
    root = upright * Rotation.from_rotvec(pose[:, 0])  # mocap stands along z
    pose[:, 0] = root.as_rotvec()
    turned = pose.copy()
    turned[:, 0] = (upright * Rotation.from_euler("z", zrot) * root).as_rotvec()
    R = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    camera = Camera(
        torch.from_numpy(R).float().expand(frames, 3, 3), torch.from_numpy(-R @ place)[:, 0].float().expand(frames, 3),
        torch.full((frames,), 600.0), torch.tensor([[160.0, 120.0]]).expand(frames, 2), 240, 320,
    )  # fmt: skip
    betas = torch.from_numpy(rng.normal(size=10)).float().expand(frames, 10)
    transl = torch.from_numpy(0.1 * rng.normal(size=(frames, 3))).float()
    index = torch.zeros(frames, dtype=torch.int64)
    scene = evenly_lit(
        Scene(torch.from_numpy(turned).float(), betas, transl, camera, index, Light.default(frames), index - 1)
    )
    rgb, alpha = capsule_field(resolution=16)(scene)
    joints = joints_of(scene).double().numpy()
    seen = joints @ R.T - (R @ place)[:, 0]
    folder.mkdir(parents=True, exist_ok=True)
    info = {
        "pose": pose.reshape(frames, 72).T, "shape": betas.numpy().T, "joints3D": joints.transpose(2, 1, 0),
        "joints2D": (600 * seen[..., :2] / seen[..., 2:] + [160, 120]).transpose(2, 1, 0), "camLoc": place,
        "zrot": np.full((frames, 1), zrot), "gender": np.zeros((frames, 1), np.uint8), "sequence": name,
    }  # fmt: skip
    scipy.io.savemat(folder / f"{name}_info.mat", info, do_compression=True)
    masks = {f"segm_{i + 1}": (7 * (alpha[i, 0] > 0.5)).byte().numpy() for i in range(frames)}
    scipy.io.savemat(folder / f"{name}_segm.mat", masks, do_compression=True)
    with av.open(str(folder / f"{name}.mp4"), "w") as video:
        stream = video.add_stream("libx264", rate=30, options={"crf": "8"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for pixels in (255 * (rgb + 0.4 * (1 - alpha))).round().byte().permute(0, 2, 3, 1).numpy():
            video.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        video.mux(stream.encode())
    return scene


def test_surreal_clip_is_read_back_with_its_mirrored_camera(tmp_path):
    truth = write_clip(tmp_path, "01_01_c0001", 5, seed=0)
    read = read_surreal([tmp_path / "01_01_c0001.mp4"], BODY, 320, 100)
    assert len(read) == 5 and read.rgb.shape[-2:] == (240, 320)
    assert torch.allclose(aa_to_matrix(read.scene.pose), aa_to_matrix(truth.pose), atol=1e-4)
    assert torch.allclose(read.scene.transl, truth.transl, atol=1e-4)
    mat = scipy.io.loadmat(tmp_path / "01_01_c0001_info.mat")
    pixels = read.scene.camera.project(joints_of(read.scene))
    assert torch.allclose(pixels, torch.from_numpy(mat["joints2D"]).float().permute(2, 1, 0), atol=0.02)
    assert torch.det(read.scene.camera.R).tolist() == pytest.approx([-1.0] * 5)
    head, feet = pixels[:, 15, 1], pixels[:, 7:9, 1].amax(1)
    assert bool((head < feet - 50).all())  # people stand upright in the pictures
    quality, _ = measure(capsule_field(resolution=16), read)
    assert quality.iou > 0.97 and quality.foreground_psnr_db > 20


def test_frames_are_spread_over_clips_and_reduced(tmp_path):
    write_clip(tmp_path / "a", "01_01_c0001", 4, seed=0)
    last = write_clip(tmp_path / "b", "01_02_c0001", 3, seed=1)
    clips = [tmp_path / "a" / "01_01_c0001.mp4", tmp_path / "b" / "01_02_c0001.mp4"]
    read = read_surreal(clips, BODY, 160, 3)
    assert read.rgb.shape == (3, 3, 120, 160) and float(read.scene.camera.focal[0]) == 300
    assert torch.allclose(aa_to_matrix(read.scene.pose[2]), aa_to_matrix(last.pose[2]), atol=1e-4)
    found = user_views(tmp_path, BODY, FitConfig(folder=str(tmp_path), subjects=("me",), size_px=160))
    assert len(found) == 7 and torch.equal(found.scene.pose[[0, 3, 6]], read.scene.pose)


def test_broken_clips_are_told_apart(tmp_path, monkeypatch):
    clip = tmp_path / "01_01_c0001.mp4"
    write_clip(tmp_path / "good", clip.stem, 2, seed=0)

    def restored() -> None:
        shutil.copytree(tmp_path / "good", tmp_path, dirs_exist_ok=True)

    restored()
    (tmp_path / f"{clip.stem}_segm.mat").unlink()
    with pytest.raises(DataError, match=r"beside its video(.|\n)*_segm.mat"):
        read_surreal([clip], BODY, 40, 9)
    restored()
    info = {k: v for k, v in scipy.io.loadmat(tmp_path / f"{clip.stem}_info.mat").items() if k[0] != "_"}
    for changed, message in (
        ({"zrot": None}, "lacks zrot"),
        ({"joints3D": np.zeros((3, 23, 2))}, r"joints3D has shape \(3, 23, 2\)"),
        ({"camLoc": np.full((3, 1), np.inf)}, "camLoc holds values that are not finite"),
    ):
        content = {k: v for k, v in (info | changed).items() if v is not None}
        scipy.io.savemat(tmp_path / f"{clip.stem}_info.mat", content)
        with pytest.raises(DataError, match=message):
            read_surreal([clip], BODY, 40, 9)
    longer = {name: np.concatenate([info[name]] * 2, -1) for name in ("pose", "shape", "joints3D")}
    scipy.io.savemat(tmp_path / f"{clip.stem}_info.mat", info | longer | {"zrot": np.zeros((4, 1))})
    with pytest.raises(DataError, match="lacks segm_3, segm_4"):
        read_surreal([clip], BODY, 40, 9)
    restored()
    clip.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="cannot be read"):
        read_surreal([clip], BODY, 40, 9)
    (tmp_path / f"{clip.stem}_info.mat").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="no file of MATLAB 5 to 7"):
        read_surreal([clip], BODY, 40, 9)
    restored()
    real_import = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", lambda name, *rest: (_ for _ in ()).throw(ImportError(name))
                        if name == "av" else real_import(name, *rest))  # fmt: skip
    with pytest.raises(DataError, match=r"pip install 'posegen\[fit\]'"):
        read_surreal([clip], BODY, 40, 9)


@pytest.mark.parametrize("layout", ["anerf", "surreal"])
def test_subject_is_fitted_to_it(tmp_path, monkeypatch, layout):
    """Some steps along the command's own path: what was read is learnt, and the field and its report are there."""
    from posegen.body import model

    body = CapsuleBody()
    body.v_template, body.weights = capsule_skin(torch.Generator().manual_seed(0))
    body.shapedirs = torch.zeros(len(body.weights), 3, 10)
    body.faces = capsule_faces(body.v_template)
    monkeypatch.setattr(model, "load_body", lambda path: body)
    if layout == "anerf":
        write_anerf(tmp_path / "me.h5", anerf_views(20, poses=10), 10)
        source, size = tmp_path / "me.h5", 32
    else:
        write_clip(tmp_path / "clips", "01_01_c0001", 20, seed=2)
        source, size = tmp_path / "clips", 80
    config = FitConfig(
        subjects=("me",), folder=str(source), output=str(tmp_path / layout), size_px=size, resolution=10,
        regions=24, schedule=FitSchedule(steps=1, batch=4, coarse_share=0.0, warmup_share=0.5),
    )  # fmt: skip
    (before,) = fit_subjects(replace(config, min_weight=2.0))  # nothing of the skin may be there: an empty picture
    with pytest.raises(DataError, match="not written over"):
        fit_subjects(config)
    (after,) = fit_subjects(replace(config, overwrite=True, schedule=replace(config.schedule, steps=80)))
    assert after.quality.views == 2 and Path(after.field).is_file() and Path(after.picture).is_file()
    assert before.quality.iou == 0 and after.quality.psnr_db > before.quality.psnr_db + 3
    assert after.quality.iou > 0.35
