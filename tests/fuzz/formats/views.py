"""Views to fit a field to: A-NeRF's HDF5, SURREAL's MATLAB files, our own folder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from posegen.renderer.fit.anerf_views import read_anerf_h5
from posegen.renderer.fit.folder import read_views
from posegen.renderer.fit.surreal import read_masks, read_surreal

from .. import neighbours  # noqa: F401
from ..format import Format
from ..pictures import PNG
from ..raw import RAW
from ..tables import HDF5, MAT
from ..zips import NPZ

FRAMES, SIZE = 3, 20


def write_folder(folder: Path) -> Path:
    """Two views of 24 px in our own layout."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
        for name in ("a", "b"):
            pixels = np.full((24, 24), 255, np.uint8)
            pixels[:4] = 0
            shown = pixels if kind == "masks" else np.stack([pixels, pixels // 2, pixels // 3], -1)
            Image.fromarray(shown).save(folder / kind / f"{name}.png")
    turn = np.tile(np.eye(3), (2, 1, 1))
    np.savez(
        folder / "views.npz", name=np.array(["a", "b.png"]), pose=np.random.default_rng(0).normal(0, 0.2, (2, 24, 3)),
        betas=np.zeros(10), R=turn, t=np.array([[0.0, 0, 3]] * 2), focal=np.array([30.0] * 2), centre=np.full((2, 2),
        12.0),
        transl=np.zeros((2, 3)), light=np.array([[0, 1.0, 0, 1, 0]] * 2),
    )  # fmt: skip
    return folder / "views.npz"


def formats() -> list[Format]:
    from test_fit_formats import BODY, anerf_views, write_anerf, write_clip

    def anerf(folder: Path) -> Path:
        write_anerf(folder / "me.h5", anerf_views(FRAMES, poses=FRAMES, size=16), FRAMES)
        return folder / "me.h5"

    def clip(kind: str) -> Any:
        def build(folder: Path) -> Path:
            with tempfile.TemporaryDirectory() as other:  # so that what else the writer leaves is not kept
                write_clip(Path(other), "clip", FRAMES, seed=0)
                for end in ("_info.mat", "_segm.mat", ".mp4"):
                    (folder / f"clip{end}").write_bytes((Path(other) / f"clip{end}").read_bytes())
            return folder / f"clip_{kind}.mat"

        return build

    def picture(folder: Path) -> Path:
        write_folder(folder)
        return folder / "images" / "a.png"

    def mask(folder: Path) -> Path:
        write_folder(folder)
        return folder / "masks" / "b.png"

    def folder_of(path: Path) -> Any:
        root = path.parent if path.name == "views.npz" else path.parent.parent
        return read_views(root, SIZE, 4)

    surreal: Any = lambda path: read_surreal([path.with_name("clip.mp4")], BODY, SIZE, 4)  # noqa: E731
    segments: Any = lambda path: read_masks(path.with_name("clip.mp4"), range(FRAMES))  # noqa: E731
    return [
        Format("anerf.h5", anerf, lambda path: read_anerf_h5(path, BODY, SIZE, 4), HDF5, RAW, _check_views),
        Format("surreal_info.mat", clip("info"), surreal, MAT, RAW, _check_views, weight=0.3),
        Format("surreal_segm.mat", clip("segm"), segments, MAT, RAW),
        Format("views.npz", write_folder, folder_of, NPZ, RAW, _check_views),
        Format("view_picture.png", picture, folder_of, PNG, RAW, _check_views),
        Format("view_mask.png", mask, folder_of, PNG, RAW, _check_views),
    ]


def _check_views(views: Any) -> None:
    count = len(views)
    assert tuple(views.scene.pose.shape) == (count, 24, 3), "pose"
    assert tuple(views.scene.betas.shape) == (count, 10), "betas"
    assert views.rgb.shape[:2] == (count, 3) and max(views.rgb.shape[-2:]) <= SIZE, "rgb"
    assert float(views.rgb.min()) >= -1e-6 and float(views.rgb.max()) <= 1 + 1e-6, "rgb outside of 0..1"
    assert float(views.alpha.min()) >= 0 and float(views.alpha.max()) <= 1, "alpha outside of 0..1"
    assert bool((views.scene.camera.focal > 0).all()), "focal"
