"""Motion clips as SMPL poses: the embedded clips, or a folder of AMASS files. y up, metres, radians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from posegen.body.rotations import mirror_pose
from posegen.errors import AssetError, ConfigError, DataError
from posegen.files.arrays import read_npz
from posegen.files.values import one_number

EMBEDDED_CLIPS = (
    "backflip", "cartwheel", "crawl", "dance_a", "dance_b", "getup_facedown", "getup_faceup", "jump", "kick", "punch",
    "roll", "run", "spin", "spinkick", "walk",
)  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """One motion.

    Args:
        name: unique in its source.
        pose: (T,24,3) axis-angle rad, float32; pose[:, 0] is global orient, y up.
        transl: (T,3) m, float32.
        fps: frames a second.
    """

    name: str
    pose: Tensor
    transl: Tensor
    fps: float

    def __len__(self) -> int:
        return len(self.pose)

    def mirrored(self) -> Clip:
        """The left-right mirror image of the motion."""
        flip = torch.tensor([-1.0, 1.0, 1.0])
        return Clip(f"{self.name}_mirrored", mirror_pose(self.pose), self.transl * flip, self.fps)


def load_clips(
    names: Sequence[str] | None = None, source: Path | None = None, fps: float | None = None, mirror: bool = False
) -> list[Clip]:
    """Motion clips.

    Args:
        names: which ones (embedded: of `EMBEDDED_CLIPS`; folder: file paths relative to it, without suffix);
            None takes all.
        source: None for the embedded clips, else a folder of AMASS .npz files (SMPL-H or SMPL-X release).
        fps: resample to this rate; None keeps the embedded clips' own and brings AMASS to 30.
        mirror: also return each clip's mirror image.
    """
    if source is not None:
        from posegen.body.amass import read_folder

        clips = read_folder(Path(source), names, 30.0 if fps is None else fps)
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
    path, keys = asset_path("mocap"), ("pose", "transl", "fps")
    arrays = read_npz(
        path, [f"{name}/{key}" for name in names for key in keys], what="the asset of motion clips", error=AssetError,
        next_command="posegen assets --repair",
    )  # fmt: skip
    clips = []
    for name in names:
        pose, transl = (torch.from_numpy(arrays[f"{name}/{key}"]) for key in ("pose", "transl"))
        clips.append(Clip(name, pose, transl, one_number(arrays[f"{name}/fps"], f"{name}/fps", path, AssetError)))
    return clips


def resampled(clip: Clip, fps: float) -> Clip:
    """The same motion at another rate: spherical interpolation between frames of each joint."""
    from posegen.body.rotations import aa_to_matrix, matrix_to_quat, quat_to_aa

    if len(clip) < 2 or abs(clip.fps - fps) < 1e-6:
        return Clip(clip.name, clip.pose, clip.transl, fps if len(clip) < 2 else clip.fps)
    if fps <= 0:
        raise DataError(f"a frame rate of {fps} is not possible", where=clip.name)
    count = max(2, int(np.floor((len(clip) - 1) * fps / clip.fps + 1e-6)) + 1)
    position = torch.arange(count, dtype=torch.float64) * (clip.fps / fps)
    low = position.floor().long().clamp(0, len(clip) - 2)
    share = (position - low)[:, None, None]
    quats = matrix_to_quat(aa_to_matrix(clip.pose.double()))
    a, b = quats[low], quats[low + 1]
    cosine = (a * b).sum(-1, keepdim=True)
    b, cosine = torch.where(cosine < 0, -b, b), cosine.abs().clamp(max=1.0)
    angle = torch.arccos(cosine)
    sine = angle.sin()
    near = sine < 1e-6
    safe = torch.where(near, torch.ones_like(sine), sine)
    weight_a = torch.where(near, 1 - share, ((1 - share) * angle).sin() / safe)
    weight_b = torch.where(near, share.expand_as(angle), (share * angle).sin() / safe)
    mixed = torch.nn.functional.normalize(weight_a * a + weight_b * b, dim=-1)
    transl = torch.lerp(clip.transl[low].double(), clip.transl[low + 1].double(), share[..., 0])
    return Clip(clip.name, quat_to_aa(mixed).float(), transl.float(), fps)
