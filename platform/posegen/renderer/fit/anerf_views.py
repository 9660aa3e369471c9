"""Reads the views that A-NeRF trains on: one HDF5 file, as its process_* scripts write it.

Layout [LemonATsu/A-NeRF core/process_spin.py write_to_h5py, core/load_surreal.py, core/dataset.py BaseH5Dataset]:
    img_shape   (4,)          N, H, W, 3
    imgs        (N,H*W,3)     uint8; masks (N,H*W,1) uint8, 1 where the person is
    bones       (P,24,3)      axis-angle rad, SMPL's joints; bones[:,0] the global orientation
    kp3d        (P,24,3)      joints in the world; image i shows pose i mod P
    rest_pose   (24,3)        rest joints in the same unit, which is no metre
    betas       (1 or P,10)   SMPL shape; may be missing
    c2ws        (N,4,4)       camera to world, OpenGL axes (x right, y up, z backward)
    focals      (N,)          px
    centers     (N,2)         px, may be missing; the ray of the first pixel's centre goes through (0, 0)
Everything else in the file (skts, cyls, sampling_masks, bkgds, ...) follows from these or is not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posegen.body.joint_sets import SMPL_PARENTS
from posegen.body.model import BodyModel
from posegen.errors import DataError
from posegen.files.hdf5 import Hdf5File
from posegen.renderer.fit.view_stack import ViewStack, check_sizes, spread
from posegen.renderer.fit.views import FitViews

FROM_OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
UNITS_M = (1e-4, 1e3)  # of lengths in a file: from a tenth of a millimetre
HELP = "docs/reference/renderer-formats.md"
NEEDED = ("img_shape", "imgs", "masks", "bones", "kp3d", "rest_pose", "c2ws", "focals")


def read_anerf_h5(
    path: Path, body: BodyModel, size_px: int, most: int, progress: Callable[[str, int, int], None] | None = None
) -> FitViews:
    """At most `most` views of the file, spread over it, brought to `size_px` along the longer side and to metres.

    The unit is found by comparing the file's rest joints with the body's, bone by bone. Raises DataError.
    """
    with Hdf5File(path, "A-NeRF's file", next_command=f"see {HELP}") as file:
        file.require(NEEDED)
        sizes = file.array("img_shape").reshape(-1)
        if len(sizes) < 3 or not (sizes == sizes.round()).all() or not (sizes > 0).all():
            raise DataError(f"img_shape is {sizes[:8].tolist()}, expected N, H, W, 3", where=path)
        count, height, width = (int(x) for x in sizes[:3])
        names = [*NEEDED[3:], *(name for name in ("betas", "centers") if name in file)]
        arrays = {name: file.array(name).astype(np.float32) for name in names}
        _check(path, arrays, count)
        pictures, masks = file.rows("imgs"), file.rows("masks")
        for name, dataset, channels in (("imgs", pictures, 3), ("masks", masks, 1)):
            if dataset.shape != (count, height * width, channels):
                raise DataError(f"{name} has shape {dataset.shape}, expected {(count, height * width, channels)}",
                                where=path)  # fmt: skip
        rows = spread(count, most)
        stack = ViewStack(size_px, path)
        for row in rows:
            if progress is not None:
                progress("reading views", len(stack), len(rows))
            image = torch.from_numpy(pictures[row].astype(np.float32)).T.reshape(3, height, width) / 255
            mask = torch.from_numpy(masks[row].astype(np.float32)).T.reshape(1, height, width).clamp(0, 1)
            stack.add(image, mask, f"{path}, image {row}")
    return _views(stack, arrays, rows, body, path)


def _views(stack: ViewStack, arrays: dict[str, NDArray], rows: list[int], body: BodyModel, path: Path) -> FitViews:
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    poses = torch.tensor(rows) % len(tensors["bones"])
    known = tensors.get("betas", torch.zeros(1, 10))
    betas = known[poses] if len(known) > 1 else known.expand(len(rows), -1).clone()
    rest = body.rest_joints(betas)
    unit = _unit_m(tensors["rest_pose"].reshape(-1, 3), rest.mean(0))
    if not UNITS_M[0] < unit < UNITS_M[1]:
        raise DataError(f"rest_pose is no person's in any unit: its unit would be {unit:.3g} m", where=path)
    c2w = tensors["c2ws"][rows]
    R = FROM_OPENGL @ c2w[:, :3, :3].transpose(1, 2)
    t = -(R @ (unit * c2w[:, :3, 3:]))[..., 0]
    centre = tensors.get("centers")
    if centre is None:
        height, width = stack.stored
        centre = torch.tensor([width / 2, height / 2]).expand(len(arrays["c2ws"]), 2)
    camera = (R, t, tensors["focals"].reshape(-1)[rows], centre.reshape(-1, 2)[rows] + 0.5)
    return stack.views(tensors["bones"][poses], betas, unit * tensors["kp3d"][poses, 0] - rest[:, 0], camera)


def _unit_m(theirs: Tensor, ours_m: Tensor) -> float:
    """Metres per unit of the file: the ratio of the bones' lengths (24,3) that fits best."""
    parents = list(SMPL_PARENTS)[1:]
    theirs_length = (theirs[1:] - theirs[parents]).norm(dim=1)
    ours_length = (ours_m[1:] - ours_m[parents]).norm(dim=1)
    return float((theirs_length * ours_length).sum() / theirs_length.square().sum())


def _check(path: Path, arrays: dict[str, NDArray], count: int) -> None:
    poses = arrays["bones"].shape[0] if arrays["bones"].ndim else 0
    if count == 0 or poses == 0:
        raise DataError("the file holds no view", where=path)
    shapes = {"bones": (poses, 24, 3), "kp3d": (poses, 24, 3), "c2ws": (count, 4, 4)}
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise DataError(f"{name} has shape {arrays[name].shape}, expected {shape}", where=path)
    for name, size in {"rest_pose": 72, "focals": count, "centers": 2 * count}.items():
        if name in arrays and arrays[name].size != size:
            raise DataError(f"{name} holds {arrays[name].size} numbers, expected {size}", where=path)
    if "betas" in arrays and arrays["betas"].shape not in ((1, 10), (poses, 10)):
        raise DataError(f"betas has shape {arrays['betas'].shape}, expected (1, 10) or {(poses, 10)}", where=path)
    check_sizes(arrays, path)
