"""Many clips in one small file, and the pack that comes with posegen: 28 trials of CMU's database.

Axis-angle components lie in [-pi, pi] and are stored as 16-bit integers (steps of 0.0055 degrees), translations
likewise within the pack's largest. A frame takes 150 bytes before compression.

The data used in this project was obtained from mocap.cs.cmu.edu. The database was created with funding from NSF
EIA-0196217.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from posegen.assets.cache import replacing
from posegen.body.motion.clip import Clip
from posegen.body.motion.source import MAX_FRAMES, MAX_NUMBER, RATES_HZ
from posegen.errors import DataError
from posegen.files.arrays import npz_names, read_npz
from posegen.files.values import one_number, text, texts
from posegen.files.versions import checked_format

FORMAT_NAME, FORMAT = "posegen motion pack", 1
STEPS = 32767
CMU_PACK = Path(__file__).parent / "clips" / "cmu.npz"
CMU_SHA256 = "e305798b984328ef14afc7f69cd0eff36173a24c1fdf5bdcbf6a2993c27b72d1"
CMU_CREDIT = (
    "The data used in this project was obtained from mocap.cs.cmu.edu. "
    "The database was created with funding from NSF EIA-0196217."
)
KEYS = ("format", "credit", "names", "lengths", "fps", "pose", "transl", "transl_step")


def write_pack(clips: Sequence[Clip], path: Path, credit: str) -> str:
    """Writes clips into one file, whole or not at all; returns its sha256. The same clips give the same bytes."""
    if not clips:
        raise DataError("there is no clip to pack", where=path)
    if len({clip.name for clip in clips}) != len(clips):
        raise DataError("two clips of a pack have one name", where=path, choices=[clip.name for clip in clips])
    pose = torch.cat([clip.pose for clip in clips]).double().numpy()
    transl = torch.cat([clip.transl for clip in clips]).double().numpy()
    largest = float(np.abs(pose).max())
    if not (np.isfinite(transl).all() and largest <= np.pi * (1 + 1e-5)):
        raise DataError(f"a pack holds rotations of at most half a turn; the largest is {largest:.3f} rad", where=path)
    step = max(float(np.abs(transl).max()), 1e-3) / STEPS
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            format=np.array(f"{FORMAT_NAME} {FORMAT}"),
            credit=np.array(credit),
            names=np.array([clip.name for clip in clips]),
            lengths=np.array([len(clip) for clip in clips], np.int32),
            fps=np.array([clip.fps for clip in clips], np.float64),
            pose=np.clip(np.round(pose * (STEPS / np.pi)), -STEPS, STEPS).astype(np.int16),
            transl=np.round(transl / step).astype(np.int16),
            transl_step=np.array(step),
        )
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_pack(path: Path) -> bool:
    """Whether an .npz says of itself that it is a pack."""
    if "format" not in npz_names(path, "the motion file"):
        return False
    told = text(read_npz(path, ("format",), text=("format",), what="the motion file")["format"], "format", path)
    name, _, version = told.rpartition(" ")
    if name != FORMAT_NAME or not (version.isascii() and version.isdigit()):
        return False
    checked_format(int(version[:9]), FORMAT, "the pack of motion", path, "posegen assets motion packs it again")
    return True


def read_pack(path: Path, names: Sequence[str] | None = None) -> list[Clip]:
    """The clips of a pack, or those called `names`, in that order."""
    if set(npz_names(path, "the pack of motion")) != set(KEYS) or not is_pack(path):
        raise DataError("this is no pack of motion", where=path, choices=KEYS)
    arrays = read_npz(path, KEYS, text=("format", "credit", "names"), what="the pack of motion")
    found = texts(arrays["names"], "names", path)
    lengths, fps = arrays["lengths"].astype(np.int64), arrays["fps"].astype(np.float64)
    pose, transl, step = arrays["pose"], arrays["transl"], one_number(arrays["transl_step"], "transl_step", path)
    shapes = lengths.shape == fps.shape == (len(found),) and bool((lengths > 0).all())
    frames = int(lengths.sum()) if shapes else -1
    if pose.shape != (frames, 24, 3) or transl.shape != (frames, 3) or {pose.dtype, transl.dtype} != {np.dtype("i2")}:
        raise DataError("the pack's arrays do not fit each other", where=path)
    likely = bool(
        ((fps >= RATES_HZ[0]) & (fps <= RATES_HZ[1])).all()
    )  # others would be resampled into no end of frames
    if frames > MAX_FRAMES or not (abs(step) * STEPS <= MAX_NUMBER and likely):
        raise DataError("the pack holds numbers that no motion has", where=path)
    wanted = found if names is None else list(names)
    if unknown := [name for name in wanted if name not in found]:
        raise DataError(f"no motion {unknown[0]!r} in the pack", where=path, choices=found)
    starts = lengths.cumsum() - lengths
    clips = []
    for name in wanted:
        index = found.index(name)
        rows = slice(int(starts[index]), int(starts[index] + lengths[index]))
        clips.append(
            Clip(
                name,
                torch.from_numpy(pose[rows].astype(np.float32) * np.float32(np.pi / STEPS)),
                torch.from_numpy(transl[rows].astype(np.float32) * np.float32(step)),
                float(fps[index]),
            )
        )
    return clips


@lru_cache(maxsize=1)
def _checked_cmu_pack() -> Path:
    found = hashlib.sha256(CMU_PACK.read_bytes()).hexdigest() if CMU_PACK.is_file() else "no file"
    if found != CMU_SHA256:
        raise DataError(
            f"the motion that comes with posegen is damaged: sha256 {found}, expected {CMU_SHA256}",
            where=CMU_PACK,
            next_command="install posegen again",
        )
    return CMU_PACK


def cmu_clips(names: Sequence[str] | None = None) -> list[Clip]:
    """The shipped trials, by names such as cmu_02_01; 15 frames a second."""
    return read_pack(_checked_cmu_pack(), names)
