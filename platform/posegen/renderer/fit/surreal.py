"""Reads SURREAL's clips: NAME.mp4, NAME_info.mat and NAME_segm.mat side by side.

Layout [gulvarol/surreal README.md, datageneration/misc/smpl_relations/smpl_relations.py]; T frames of 320 x 240 px:
    NAME.mp4        T pictures
    NAME_info.mat   pose (72,T) rad, shape (10,T), joints3D (3,24,T) m, camLoc (3,1) m, zrot (T,1) rad, gender (T,1)
    NAME_segm.mat   segm_1 ... segm_T (240,320) uint8, 0 where there is no person
All cameras have a focal length of 600 px and look along the world's -x from camLoc. Their axes are left-handed: the
pictures are mirrored, and R below has determinant -1, which the renderer takes as it is. The light (spherical
harmonics) is not used, so that shading becomes part of the colour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posegen.body.model import BodyModel
from posegen.body.rotations import aa_to_matrix, matrix_to_aa
from posegen.errors import DataError
from posegen.files.matlab import read_mat
from posegen.renderer.fit.view_stack import ViewStack, check_sizes, spread
from posegen.renderer.fit.views import FitViews

FOCAL_PX = 600.0  # a 60 mm lens on a 32 mm sensor of 320 px
SIZE_PX = (240, 320)
WORLD_TO_CAMERA = torch.tensor([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
HELP = "docs/reference/renderer-formats.md"
SHAPES = {"pose": (72,), "shape": (10,), "joints3D": (3, 24)}  # before the frames


def read_surreal(
    clips: list[Path], body: BodyModel, size_px: int, most: int, progress: Callable[[str, int, int], None] | None = None
) -> FitViews:
    """At most `most` frames of the clips (their .mp4 files), spread over them, brought to `size_px`.

    Raises DataError with the file and what is wrong with it.
    """
    infos = [_info(clip) for clip in clips]
    frames = [(clip, frame) for clip, info in enumerate(infos) for frame in range(info["pose"].shape[1])]
    chosen = [frames[i] for i in spread(len(frames), most)]
    stack, used = ViewStack(size_px, ", ".join(map(str, clips[:3]))), []
    for clip, (path, info) in enumerate(zip(clips, infos, strict=True)):
        wanted = [frame for owner, frame in chosen if owner == clip]
        if not wanted:
            continue
        masks = read_masks(path, wanted)
        for frame, image in _pictures(path, wanted):
            if progress is not None:
                progress("reading views", len(stack), len(chosen))
            stack.add(image, masks[frame], f"{path}, frame {frame + 1}")
        used.append({name: torch.from_numpy(array)[..., wanted] for name, array in info.items()})
    rows = {name: torch.cat([part[name] for part in used], -1) for name in used[0]}
    betas = rows["shape"].T.contiguous()
    camera = (
        WORLD_TO_CAMERA.expand(len(stack), 3, 3).clone(), -(WORLD_TO_CAMERA @ rows["camLoc"]).T,
        torch.full((len(stack),), FOCAL_PX), None,
    )  # fmt: skip
    transl = rows["joints3D"][:, 0].T - body.rest_joints(betas)[:, 0]
    return stack.views(_pose(rows["pose"], rows["zrot"]), betas, transl, camera)


def _pose(pose: Tensor, zrot: Tensor) -> Tensor:
    """(72,V) and the turn of the clip (V,) rad -> (V,24,3): the motion turned about z, then z to -y."""
    pose = pose.T.reshape(-1, 24, 3).contiguous()
    zero = torch.zeros_like(zrot)
    about_z = aa_to_matrix(torch.stack([zero, zero, zrot], -1))
    about_x = aa_to_matrix(torch.tensor([torch.pi / 2, 0.0, 0.0]))
    pose[:, 0] = matrix_to_aa(about_x @ about_z @ aa_to_matrix(pose[:, 0]))
    return pose


def _mat(path: Path, needed: Sequence[str]) -> dict[str, NDArray]:
    """Arrays of numbers of one of the files beside a video."""
    if not path.is_file():
        raise DataError("a clip needs this file beside its video", where=path, next_command=f"see {HELP}")
    arrays = read_mat(path, needed, "SURREAL's file", f"see {HELP}")
    if cells := [name for name, array in arrays.items() if array.dtype == object]:
        raise DataError(f"{cells[0]} is a cell array where numbers should be", where=path)
    return arrays


def _info(clip: Path) -> dict[str, NDArray]:
    """What is known of the frames, one column a frame: pose, shape, joints3D, camLoc (3,T), zrot (T,)."""
    path = clip.with_name(f"{clip.stem}_info.mat")
    mat = _mat(path, (*SHAPES, "camLoc", "zrot"))
    frames = mat["pose"].size // 72
    arrays = {}
    for name, shape in SHAPES.items():
        value = np.asarray(mat[name], np.float32)
        if value.size != np.prod(shape) * frames or frames == 0:
            raise DataError(f"{name} has shape {value.shape}, expected {(*shape, frames)}", where=path)
        arrays[name] = value.reshape(*shape, frames)  # MATLAB drops a last dimension of one
    if mat["camLoc"].size != 3 or mat["zrot"].size not in (1, frames):
        raise DataError(f"camLoc and zrot have shapes {mat['camLoc'].shape} and {mat['zrot'].shape}, expected (3, 1) "
                        f"and {(frames, 1)}", where=path)  # fmt: skip
    place = np.asarray(mat["camLoc"], np.float32).reshape(3, 1)
    arrays["camLoc"] = np.broadcast_to(place, (3, frames)).copy()
    arrays["zrot"] = np.broadcast_to(np.asarray(mat["zrot"], np.float32).reshape(-1), (frames,)).copy()
    check_sizes(arrays, path)
    return arrays


def read_masks(clip: Path, frames: Sequence[int]) -> dict[int, Tensor]:
    """Frame -> its mask (1,H,W) of zeros and ones."""
    where = clip.with_name(f"{clip.stem}_segm.mat")
    names = {frame: f"segm_{frame + 1}" for frame in frames}
    arrays = _mat(where, list(names.values()))
    for name, array in arrays.items():
        if array.ndim != 2:
            raise DataError(f"{name} has shape {array.shape}", where=where)
    return {frame: torch.from_numpy(arrays[name] > 0).float()[None] for frame, name in names.items()}


def _pictures(clip: Path, frames: list[int]) -> Iterator[tuple[int, Tensor]]:
    """The frames (ascending) of a video with their numbers: (3,H,W) in [0,1]."""
    try:
        import av
    except ImportError as error:
        raise DataError("videos are read with PyAV, which is not installed", where=clip,
                        next_command="pip install 'posegen[fit]'") from error  # fmt: skip
    if not clip.is_file():
        raise DataError("there is no such video", where=clip, next_command=f"see {HELP}")
    wanted = set(frames)
    try:
        # The format is named: left to guess, FFmpeg takes a playlist under any name and opens what that one lists.
        with av.open(str(clip), format="mp4", options={"protocol_whitelist": "file"}) as video:
            for number, frame in enumerate(video.decode(video=0)):
                if number in wanted:
                    pixels = torch.from_numpy(frame.to_ndarray(format="rgb24"))
                    if tuple(pixels.shape[:2]) != SIZE_PX:
                        raise DataError(f"SURREAL's pictures are {SIZE_PX[1]} x {SIZE_PX[0]} px, these "
                                        f"{pixels.shape[1]} x {pixels.shape[0]}", where=clip)  # fmt: skip
                    wanted.remove(number)
                    yield number, pixels.permute(2, 0, 1).float() / 255
    except (av.FFmpegError, IndexError) as error:
        raise DataError(f"the video cannot be read: {error}", where=clip) from error
    if wanted:
        raise DataError(f"the video ends before frame {min(wanted) + 1}, of which {clip.stem}_info.mat tells",
                        where=clip)  # fmt: skip
