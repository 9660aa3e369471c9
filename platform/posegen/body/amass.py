"""AMASS motion files (.npz) as clips.

The SMPL-H release holds `poses (T,156)` (52 joints), `trans (T,3)`, `mocap_framerate`; the SMPL-X release `poses
(T,165)` (55 joints), `trans`, `mocap_frame_rate`. AMASS stands z up: a turn of -90 degrees about x brings y up.
Its translation is added after the body has turned about its own pelvis, as everywhere in SMPL; the small offset of
that pelvis from the origin (0.2 m, known only with the body and its betas) is not turned along.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from posegen.body.motion.clip import Clip, resampled
from posegen.body.motion.source import RATES_HZ
from posegen.body.rotations import aa_to_matrix, matrix_to_aa
from posegen.errors import DataError
from posegen.files.arrays import npz_names, read_npz
from posegen.files.values import one_number

# SMPL's joints 0..21 are the same in all; its two hands turn like the roots of the index fingers there: 22 and 37 in
# SMPL-H; SMPL-X has jaw and eyes (22..24) before them.
SMPL_JOINTS_OF = {52: [*range(22), 22, 37], 55: [*range(22), 25, 40], 24: [*range(24)]}
RATE_KEYS = ("mocap_framerate", "mocap_frame_rate")
MOST_RAD, MOST_M = 1e4, 1e5  # an axis-angle may have turned on and on; a place is within the Earth's cities
Y_UP = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])  # z-up world to y-up world


def read_motion(path: Path, name: str | None = None, fps: float = 30.0) -> Clip:
    """One AMASS file, turned y up and resampled to `fps`."""
    arrays = read_npz(path, (), ("poses", "trans", *RATE_KEYS), what="the motion file")
    rate_key = next((key for key in RATE_KEYS if key in arrays), None)
    if not {"poses", "trans"} <= set(arrays) or rate_key is None:
        raise DataError(
            "this is not an AMASS motion: it needs poses, trans and mocap_framerate (or mocap_frame_rate)",
            where=path, choices=npz_names(path)[:20],
        )  # fmt: skip
    poses, trans = arrays["poses"], arrays["trans"]
    rate = one_number(arrays[rate_key], rate_key, path, low=RATES_HZ[0], high=RATES_HZ[1])
    if poses.ndim != 2 or poses.shape[1] % 3 or poses.shape[1] // 3 not in SMPL_JOINTS_OF:
        valid = [f"(T,{3 * n})" for n in sorted(SMPL_JOINTS_OF)]
        raise DataError(f"poses has shape {poses.shape}", where=path, choices=valid)
    if trans.shape != (len(poses), 3) or not len(poses):
        raise DataError(f"trans has shape {trans.shape} for {len(poses)} poses", where=path)
    if np.abs(poses).max() > MOST_RAD or np.abs(trans).max() > MOST_M:
        raise DataError("the motion holds numbers that are no angles in rad and no places in m", where=path)
    count = poses.shape[1] // 3
    pose = torch.from_numpy(poses.astype(np.float64)).reshape(-1, count, 3)[:, SMPL_JOINTS_OF[count]]
    pose[:, 0] = matrix_to_aa(Y_UP.double() @ aa_to_matrix(pose[:, 0]))
    transl = torch.from_numpy(trans.astype(np.float64)) @ Y_UP.double().T
    return resampled(Clip(name or path.stem, pose.float(), transl.float(), rate), fps)
