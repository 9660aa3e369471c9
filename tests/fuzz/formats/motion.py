"""Motion: AMASS, packs, our own npz, ASF, AMC, BVH."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from posegen.body.amass import read_motion
from posegen.body.motion.asf_amc import read_amc, read_asf
from posegen.body.motion.bvh import read_bvh
from posegen.body.motion.clip import Clip
from posegen.body.motion.folder import read_motions
from posegen.body.motion.pack import read_pack, write_pack

from .. import neighbours  # noqa: F401
from ..format import Format
from ..raw import RAW
from ..texts import LINES
from ..zips import NPZ

FRAMES = 6


def formats() -> list[Format]:
    from written_motion import JOINTS, amc_text, asf_text, bvh_text

    rng = np.random.default_rng(0)

    def amass(folder: Path) -> Path:
        np.savez(
            folder / "walk_poses.npz", poses=rng.normal(0, 0.3, (FRAMES, 156)), trans=rng.normal(0, 1, (FRAMES, 3)),
            mocap_framerate=np.array(120.0), betas=np.zeros(16), gender=np.array("male"),
        )  # fmt: skip
        return folder / "walk_poses.npz"

    def own(folder: Path) -> Path:
        pose, transl = rng.normal(0, 0.3, (FRAMES, 24, 3)), rng.normal(0, 1, (FRAMES, 3))
        np.savez(folder / "own.npz", pose=pose, transl=transl, fps=np.array(30.0))
        return folder / "own.npz"

    def pack(folder: Path) -> Path:
        clips = [Clip(name, torch.rand(FRAMES, 24, 3), torch.rand(FRAMES, 3), 30.0) for name in ("a", "b")]
        write_pack(clips, folder / "pack.npz", "nobody")
        return folder / "pack.npz"

    def asf(folder: Path) -> Path:
        (folder / "07.asf").write_text(asf_text())
        (folder / "07_01.amc").write_text(amc_text([{"ltibia": (10.0 * i,)} for i in range(FRAMES)]))
        return folder / "07.asf"

    def amc(folder: Path) -> Path:
        return asf(folder).with_name("07_01.amc")

    def bvh(folder: Path) -> Path:
        angles = {name: rng.normal(0, 20, (FRAMES, 3)) for name, _, _ in JOINTS}
        (folder / "a.bvh").write_text(bvh_text(angles, rng.normal(0, 10, (FRAMES, 3)), 1 / 30))
        return folder / "a.bvh"

    rest = np.random.default_rng(1).normal(0, 0.3, (24, 3))

    def acclaim(path: Path) -> Any:
        source = read_amc(path.with_name("07_01.amc"), read_asf(path.with_name("07.asf")))
        return source, read_motions(path.parent, ["07_01"], rest_joints_m=rest)

    def biovision(path: Path) -> Any:
        return read_bvh(path), read_motions(path.parent, ["a"], rest_joints_m=rest)

    return [
        Format("amass.npz", amass, read_motion, NPZ, RAW, _check_clip),
        Format("motion.npz", own, lambda path: read_motions(path.parent)[0], NPZ, RAW, _check_clip),
        Format("pack.npz", pack, read_pack, NPZ, RAW, lambda clips: [_check_clip(clip) for clip in clips]),
        Format("motion.asf", asf, acclaim, LINES, RAW, _check_source),
        Format("motion.amc", amc, acclaim, LINES, RAW, _check_source),
        Format("motion.bvh", bvh, biovision, LINES, RAW, _check_source),
    ]


def _check_clip(clip: Any) -> None:
    frames = len(clip.pose)
    assert frames > 0 and tuple(clip.pose.shape) == (frames, 24, 3), "pose"
    assert tuple(clip.transl.shape) == (frames, 3), "transl"
    assert 0 < clip.fps < 1e5, "fps"


def _check_source(read: Any) -> None:
    source, clips = read
    frames, joints = len(source.rotations), len(source.joints)
    assert source.rotations.shape == (frames, joints, 3, 3) and source.root.shape == (frames, 3), "rotations"
    assert np.abs(np.linalg.det(source.rotations) - 1).max() < 1e-3, "no rotations"
    for clip in clips:
        _check_clip(clip)
