"""Motion clips as SMPL poses: the embedded clips, or a user's own. y up, metres, radians."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from posegen.body.motion.clip import Clip, resampled
from posegen.body.motion.folder import read_motions
from posegen.body.motion.pack import cmu_clips
from posegen.errors import AssetError, ConfigError
from posegen.files.arrays import read_npz
from posegen.files.values import one_number

__all__ = ["CMU_CLIPS", "DEEPMIMIC_CLIPS", "EMBEDDED_CLIPS", "Clip", "load_clips", "resampled"]

DEEPMIMIC_CLIPS = (
    "backflip", "cartwheel", "crawl", "dance_a", "dance_b", "getup_facedown", "getup_faceup", "jump", "kick", "punch",
    "roll", "run", "spin", "spinkick", "walk",
)  # fmt: skip
# Trials of CMU's subjects 01 (climbs, hangs, swings and jumps), 02 (everyday motion, fights) and 03 (walks on uneven
# ground), which come with posegen.
_CMU_TRIALS = {"01": 14, "02": 10, "03": 4}
CMU_CLIPS = tuple(f"cmu_{subject}_{trial:02d}" for subject, last in _CMU_TRIALS.items() for trial in range(1, last + 1))
EMBEDDED_CLIPS = (*DEEPMIMIC_CLIPS, *CMU_CLIPS)


def load_clips(
    names: Sequence[str] | None = None, source: Path | None = None, fps: float | None = None, mirror: bool = False
) -> list[Clip]:
    """Motion clips.

    Args:
        names: which ones (embedded: of `EMBEDDED_CLIPS`; folder: file paths relative to it, without suffix);
            None takes all.
        source: None for the embedded clips, else a folder of AMASS .npz (SMPL-H or SMPL-X release), BVH or ASF/AMC
            files, or one pack (posegen.body.motion.pack).
        fps: resample to this rate; None keeps the embedded clips' own and brings others to 30.
        mirror: also return each clip's mirror image.
    """
    if source is not None:
        clips = read_motions(Path(source), names, 30.0 if fps is None else fps)
    else:
        clips = _embedded(EMBEDDED_CLIPS if names is None else tuple(names))
        if fps is not None:
            clips = [resampled(clip, fps) for clip in clips]
    return clips + [clip.mirrored() for clip in clips] if mirror else clips


def _embedded(names: Sequence[str]) -> list[Clip]:
    from posegen.assets import asset_path

    unknown = [name for name in names if name not in EMBEDDED_CLIPS]
    if unknown:
        raise ConfigError(f"unknown motion clip {unknown[0]!r}", choices=EMBEDDED_CLIPS)
    deepmimic = [name for name in names if name in DEEPMIMIC_CLIPS]
    clips = {clip.name: clip for clip in cmu_clips([name for name in names if name in CMU_CLIPS])}
    if deepmimic:
        path, keys = asset_path("mocap"), ("pose", "transl", "fps")
        arrays = read_npz(
            path, [f"{name}/{key}" for name in deepmimic for key in keys], what="the asset of motion clips",
            error=AssetError, next_command="posegen assets --repair",
        )  # fmt: skip
        for name in deepmimic:
            pose, transl = (torch.from_numpy(arrays[f"{name}/{key}"]) for key in ("pose", "transl"))
            clips[name] = Clip(name, pose, transl, one_number(arrays[f"{name}/fps"], f"{name}/fps", path, AssetError))
    return [clips[name] for name in names]
