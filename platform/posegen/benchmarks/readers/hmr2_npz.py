"""HMR 2.0-style npz files (4D-Humans hmr2/datasets/image_dataset.py).

They differ from SPIN's: `scale` is the box's side in pixels (N,) or (N,2), `center (N,1,2)`; joints are
`extra_keypoints_3d (N,19,4)`, the first 19 of SPIN's 24; SMPL parameters are `body_pose (N,72)` with the global orient,
`betas (N,10)`, with flags `has_body_pose, has_betas`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from posegen.benchmarks.protocol import Protocol
from posegen.benchmarks.protocols import J14
from posegen.benchmarks.readers.crop import BOX_UNIT_PX
from posegen.benchmarks.readers.files import as_text, existing, frame_options, image_root, read_npz
from posegen.benchmarks.readers.frames import FrameBenchmark
from posegen.benchmarks.readers.plausibility import check_joints, check_unit
from posegen.benchmarks.readers.spin_npz import records_of
from posegen.benchmarks.readers.truth import GivenJoints
from posegen.errors import DataError

OWN = ("annotations", "images")
HMR2 = Protocol(
    name="hmr2_npz",
    joint_set="hmr2_extra19",
    joints=J14,
    root=("pelvis",),
    split="as in the file",
    boxes="as in the file",
    ordered=True,
    source="4D-Humans hmr2/datasets/image_dataset.py",
)


def hmr2_npz(annotations: str | Path, images: str | Path | None = None, **options: Any) -> FrameBenchmark:
    """An HMR 2.0-style npz file with 3D joints.

    Args:
        annotations: the npz file; images: the folder that `imgname` starts in; by default the file's own.
    """
    where = existing(annotations, "the npz file")
    chosen = frame_options("hmr2_npz", options, OWN)
    arrays = read_npz(where, ("imgname", "center", "scale", "extra_keypoints_3d"))
    names = as_text(arrays["imgname"])
    values = arrays["extra_keypoints_3d"]
    if values.ndim != 3 or values.shape[1:] != (19, 4):
        raise DataError(f"extra_keypoints_3d has shape {values.shape}, expected (N, 19, 4)", where=where)
    valid = values[..., 3] > 0
    if not valid.any():
        raise DataError("no 3D joint in the file has a confidence above 0", where=where)
    joints = np.where(valid[..., None], values[..., :3], 0.0)
    check_joints(joints, 19, where, names)
    check_unit(np.where(valid[..., None], values[..., :3], np.nan)[valid.sum(1) >= 8], "m", where)
    side_px = np.asarray(arrays["scale"], np.float64).reshape(len(names), -1).max(1)
    if np.median(side_px) < 20:
        raise DataError(
            f"scale must be in pixels: its median is {np.median(side_px):.3g}, which looks like units of 200 px",
            where=where,
            next_command="posegen evaluate ... benchmark=spin_npz, if the file is SPIN's",
        )
    records = records_of(names, arrays["center"], side_px / BOX_UNIT_PX, image_root(images, where.parent), where)
    protocol = replace(HMR2, stride=chosen.stride)
    return FrameBenchmark("hmr2_npz", protocol, records, GivenJoints(joints, valid), chosen, where)
