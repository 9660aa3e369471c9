"""Folders of motion: AMASS .npz, BVH, Acclaim's ASF and AMC, and packs, as clips."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from posegen.body.amass import RATES_HZ, read_motion
from posegen.body.motion.asf_amc import AMC_FPS, Acclaim, read_amc, read_asf
from posegen.body.motion.bvh import read_bvh
from posegen.body.motion.clip import Clip, resampled
from posegen.body.motion.pack import is_pack, read_pack
from posegen.body.motion.retarget import retarget
from posegen.body.motion.source import Array
from posegen.errors import DataError
from posegen.files.arrays import npz_names, read_npz
from posegen.files.listing import files_matching
from posegen.files.values import one_number

logger = logging.getLogger(__name__)

SUFFIXES = (".npz", ".bvh", ".amc")
NAMED = 5  # refused files that a warning names


def motion_files(source: Path) -> dict[str, Path]:
    """The motions below a folder by name, as far as their suffixes tell. DataError where there is none."""
    if not source.is_dir():
        raise DataError("there is no such motion folder", where=source, next_command="posegen doctor")
    paths = [path for path in files_matching(source, "**/*") if path.suffix.lower() in SUFFIXES]
    # AMASS puts a shape.npz or neutral_stagei.npz beside the motions of a person: no motion in them.
    paths = [path for path in paths if path.stem != "shape" and not path.stem.endswith("stagei")]
    files: dict[str, Path] = {}
    for path in paths:
        name = str(path.relative_to(source).with_suffix(""))
        files[name if name not in files else str(path.relative_to(source))] = path
    if not files:
        raise DataError(
            "the motion folder holds no AMASS .npz file, no .bvh and no .amc",
            where=source,
            next_command="put AMASS's files there (amass.is.tue.mpg.de), or leave mocap.path empty for the free clips",
        )
    return files


def read_motions(
    source: Path,
    names: Sequence[str] | None = None,
    fps: float = 30.0,
    amc_fps: float = AMC_FPS,
    rest_joints_m: Array | None = None,
) -> list[Clip]:
    """All motions below a folder, or those called `names` (paths relative to it, with or without suffix).

    Of a whole folder, files that hold no motion are passed over with a warning that counts and names them; a file that
    was asked for by name must be one.

    Args:
        source: a folder; or one pack, as `posegen assets motion` writes it.
        fps: resample to this rate.
        amc_fps: of .amc files, which do not say it.
        rest_joints_m: (24,3) of the body that BVH and ASF/AMC are retargeted to; None takes the free body.
    """
    if source.is_file():
        return [resampled(clip, fps) for clip in read_pack(source, names)]
    files = motion_files(source)
    if names is not None:
        files = _chosen(files, names, source)
        return [clip for name, path in files.items() for clip in _read(path, name, fps, amc_fps, rest_joints_m)]
    clips: list[Clip] = []
    refused: list[DataError] = []
    for name, path in files.items():
        try:
            clips += _read(path, name, fps, amc_fps, rest_joints_m)
        except DataError as error:
            refused.append(error)
    if refused and not clips:
        raise DataError(
            f"none of the folder's {len(refused)} files holds a motion; the first: {refused[0].what}",
            where=refused[0].where,
            choices=refused[0].choices,
        )
    if refused:
        told = "".join(f"\n  {error.where}: {error.what}" for error in refused[:NAMED])
        more = f"\n  and {len(refused) - NAMED} more" if len(refused) > NAMED else ""
        logger.warning("%d of %d files hold no motion and are left out:%s%s", len(refused), len(files), told, more)
    return clips


def _chosen(files: dict[str, Path], names: Sequence[str], source: Path) -> dict[str, Path]:
    chosen = {}
    for name in names:
        key = name if name in files else str(Path(name).with_suffix("")) if Path(name).suffix in SUFFIXES else name
        if key not in files:
            raise DataError(f"no motion {key!r} in the folder", where=source, choices=sorted(files)[:20])
        chosen[key] = files[key]
    return chosen


def _read(path: Path, name: str, fps: float, amc_fps: float, rest_joints_m: Array | None) -> list[Clip]:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        if is_pack(path):
            return [resampled(clip, fps) for clip in read_pack(path)]
        return [_read_poses(path, name, fps) if _is_poses(path) else read_motion(path, name, fps)]
    rest = _free_rest() if rest_joints_m is None else rest_joints_m
    source = read_bvh(path, name) if suffix == ".bvh" else read_amc(path, _skeleton_of(path), amc_fps, name)
    return [retarget(source, rest, fps)]


def _is_poses(path: Path) -> bool:
    return {"pose", "transl", "fps"} <= set(npz_names(path, "the motion file"))


def _read_poses(path: Path, name: str, fps: float) -> Clip:
    """SMPL poses, y up: pose (T,24,3) rad, transl (T,3) m, fps."""
    arrays = read_npz(path, ("pose", "transl", "fps"), what="the motion file")
    pose, transl = arrays["pose"], arrays["transl"]
    rate = one_number(arrays["fps"], "fps", path, low=RATES_HZ[0], high=RATES_HZ[1])
    if pose.ndim != 3 or pose.shape[1:] != (24, 3) or transl.shape != (len(pose), 3) or not len(pose):
        raise DataError(f"pose has shape {pose.shape}, transl {transl.shape}; expected (T,24,3), (T,3)", where=path)
    numbers = [torch.from_numpy(np.asarray(values, np.float32)) for values in (pose, transl)]
    return resampled(Clip(name, numbers[0], numbers[1], rate), fps)


@lru_cache(maxsize=8)
def _asf(path: Path, mtime_ns: int) -> Acclaim:
    return read_asf(path)


def _skeleton_of(motion: Path) -> Acclaim:
    """The .asf of an .amc: of the same name, of its subject (01_02.amc: 01.asf), or the only one beside it."""
    beside = {path.stem: path for path in sorted(motion.parent.iterdir()) if path.suffix.lower() == ".asf"}
    for stem in (motion.stem, motion.stem.rsplit("_", 1)[0]):
        if stem in beside:
            return _asf(beside[stem], beside[stem].stat().st_mtime_ns)
    if len(beside) == 1:
        (path,) = beside.values()
        return _asf(path, path.stat().st_mtime_ns)
    raise DataError(
        f"no skeleton (.asf) belongs to {motion.name}", where=motion.parent, choices=sorted(beside) or ("none there",)
    )


@lru_cache(maxsize=1)
def _free_rest() -> Array:
    from posegen.body.model import load_body

    return load_body(resolution="low").rest_joints(torch.zeros(1, 10))[0].double().numpy()
