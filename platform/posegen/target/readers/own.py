"""npz files of keypoints: SPIN's (`openpose` (N,25,3), `part` (N,24,3), `imgname`), and our own.

Ours holds `keypoints (N,K,3)`: x, y px and confidence; `joint_set`: the name of the joint set; and, where known,
`names (N,)`, `boxes (N,4)`, `sequences (N,)`, `frames (N,)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.assets.cache import replacing
from posegen.body.joint_sets import OPENPOSE25, SPIN24
from posegen.errors import DataError
from posegen.files.versions import checked_format
from posegen.target.readers.opening import open_arrays
from posegen.target.record import Target

FORMAT = 1
OURS = ("keypoints", "joint_set", "names", "boxes", "sequences", "frames", "format")
SPIN = {"openpose": OPENPOSE25, "part": SPIN24}
KEYS = (*OURS, *SPIN, "imgname")


def read_npz_target(path: Path, joint_set: str | None = None) -> Target:
    """The people of an npz file of either kind."""
    arrays = open_arrays(path, KEYS)
    if "keypoints" in arrays:
        checked_format(arrays.get("format"), FORMAT, "the target", path, "write its keypoints anew")
        return _ours(arrays, joint_set, path)
    known = [key for key, names in SPIN.items() if key in arrays and joint_set in (None, names.name)]
    if not known:
        raise DataError(
            f"the file has no keypoints{f' of {joint_set}' if joint_set else ''}; of what we know it has "
            f"{', '.join(arrays) or 'nothing'}",
            where=path, choices=(*SPIN, "keypoints"),
        )  # fmt: skip
    # SPIN's files hold zeros where a kind of keypoint was not made: the kind that sees more is taken.
    values = {key: _points(arrays[key], len(SPIN[key]), key, path) for key in known}
    key = max(known, key=lambda k: float((values[k][..., 2] > 0).sum(dtype=np.int64)))
    labels = [f"{name}#{row}" for row, name in enumerate(_text(arrays.get("imgname"), len(values[key]), path))]
    return Target(SPIN[key].name, values[key], tuple(labels))


def _ours(arrays: dict[str, NDArray], joint_set: str | None, path: Path) -> Target:
    told = str(arrays["joint_set"].reshape(-1)[0]) if "joint_set" in arrays and arrays["joint_set"].size else None
    if joint_set and told and joint_set != told:
        raise DataError(f"the file's joint set is {told}", where="target.joint_set", choices=(told,))
    name = joint_set or told
    if name is None:
        raise DataError("the file does not name its joint set", where=path, next_command="target.joint_set=coco17")
    from posegen.body.joint_sets import joint_set as named

    points = _points(arrays["keypoints"], len(named(name, path)), "keypoints", path)
    n = len(points)
    boxes = arrays.get("boxes")
    if boxes is not None and (boxes.shape != (n, 4) or boxes.dtype.kind not in "fiu" or not np.isfinite(boxes).all()):
        raise DataError(f"boxes of shape {boxes.shape}, expected ({n}, 4) finite numbers", where=path)
    frames = arrays.get("frames")
    if frames is not None and (frames.shape != (n,) or frames.dtype.kind not in "iu"):
        raise DataError(f"frames of shape {frames.shape}, expected ({n},) integers", where=path)
    sequences = tuple(_text(arrays["sequences"], n, path)) if "sequences" in arrays else ()
    names = tuple(_text(arrays.get("names"), n, path))
    if len(set(names)) != n:
        names = tuple(f"{label}#{row}" for row, label in enumerate(names))
    return Target(
        name, points, names, boxes=None if boxes is None else boxes.astype(np.float64), sequences=sequences,
        frames=None if frames is None else frames.astype(np.int64),
    )  # fmt: skip


def _points(values: NDArray, joints: int, key: str, path: Path) -> NDArray[np.float32]:
    if values.ndim != 3 or values.shape[1:] != (joints, 3) or values.dtype.kind not in "fiu":
        raise DataError(
            f"{key} has shape {values.shape} of {values.dtype}, expected (N, {joints}, 3): another joint set?",
            where=path, next_command="target.joint_set=NAME",
        )  # fmt: skip
    points = values.astype(np.float32)
    points[..., 2] = points[..., 2].clip(0, 1)
    return points


def _text(values: Any, n: int, path: Path) -> list[str]:
    if values is None:
        return [f"person{row:06d}" for row in range(n)]
    if values.shape != (n,):
        raise DataError(f"{values.shape} names for {n} people", where=path)
    return [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values.tolist()]


def write_target(target: Target, path: Path) -> Path:
    """Writes our own format, whole or not at all."""
    arrays: dict[str, Any] = {"keypoints": target.keypoints, "joint_set": np.array([target.joint_set] * len(target))}
    arrays |= {"names": np.array(target.names), "format": np.array(FORMAT)}
    if target.boxes is not None:
        arrays["boxes"] = target.boxes
    if target.sequences:
        arrays["sequences"] = np.array(target.sequences)
    if target.frames is not None:
        arrays["frames"] = target.frames
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path
