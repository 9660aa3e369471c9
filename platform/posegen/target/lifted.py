"""What lifting leaves behind: several people and cameras for each of the target's, in one npz file.

Dimensions: N people, H hypotheses, K joints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from posegen.assets.cache import replacing
from posegen.body.joint_sets import joint_set
from posegen.errors import DataError
from posegen.files.values import text, texts
from posegen.files.versions import checked_format
from posegen.target.lift.lifter import Hypotheses
from posegen.target.places import FORMAT, found_places, found_turned, told_format, told_places
from posegen.target.readers.opening import open_arrays
from posegen.target.record import Target

LIFTED = "lifted.npz"  # its name, in a run's folder target/ and in that of `posegen lift`
HYPOTHESES = tuple(item.name for item in fields(Hypotheses))
OTHERS = ("keypoints", "joint_set", "names", "pictures", "box_centre", "box_side", "version", "left_out")
TRAILING = {"pose": (24, 3), "betas": (10,), "shift_m": (2,)}


@dataclass(frozen=True)
class Lifted:
    """The target's people with their hypotheses, best first."""

    hypotheses: Hypotheses
    joint_set: str
    keypoints: NDArray[np.float32]  # (N,K,3) px of the pictures, confidence
    names: tuple[str, ...]
    pictures: tuple[str, ...]  # (N,) or none
    box_centre: NDArray[np.float64]  # (N,2) px
    box_side: NDArray[np.float64]  # (N,) px
    left_out: Mapping[str, int]
    turned: bool = False  # whether pixels are those of pictures turned by their EXIF orientation

    def __len__(self) -> int:
        return len(self.names)

    def pick(self, rows: NDArray) -> Lifted:
        """The people of some rows (indices or a mask)."""
        indices = np.arange(len(self))[rows]
        return replace(
            self, hypotheses=self.hypotheses[torch.from_numpy(indices)], keypoints=self.keypoints[indices],
            names=tuple(self.names[i] for i in indices),
            pictures=tuple(self.pictures[i] for i in indices) if self.pictures else (),
            box_centre=self.box_centre[indices], box_side=self.box_side[indices],
        )  # fmt: skip


def lifted_of(target: Target, hypotheses: Hypotheses, centre: NDArray, side: NDArray) -> Lifted:
    return Lifted(
        hypotheses, target.joint_set, target.keypoints, target.names, target.pictures, centre, side, target.left_out,
        target.turned,
    )  # fmt: skip


def write_lifted(lifted: Lifted, path: Path) -> Path:
    """Writes the file, whole or not at all."""
    arrays: dict[str, NDArray] = {name: getattr(lifted.hypotheses, name).numpy() for name in HYPOTHESES}
    arrays |= {
        "keypoints": lifted.keypoints, "joint_set": np.array([lifted.joint_set]), "names": np.array(lifted.names),
        "pictures": told_places(lifted.pictures, path), "box_centre": lifted.box_centre,
        "box_side": lifted.box_side, "version": told_format(lifted.turned),
        "left_out": np.array([json.dumps(dict(lifted.left_out))]),
    }  # fmt: skip
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return path


def read_lifted(path: str | Path) -> Lifted:
    """The file of `posegen lift`. Raises DataError with the command that makes it."""
    where = Path(path).expanduser()
    again = "posegen lift target.keypoints=FILE"
    if not where.is_file():
        raise DataError("the lifted target is not there", where=where, next_command=again)
    arrays = open_lifted_arrays(where)
    version = checked_format(arrays.get("version"), FORMAT, "the lifted target", where, again)
    missing = [key for key in (*HYPOTHESES, *OTHERS) if key not in arrays]
    if missing:
        raise DataError(f"this is no lifted target: it lacks {', '.join(missing)}", where=where, next_command=again)
    n, h = arrays["score"].shape if arrays["score"].ndim == 2 else (-1, -1)
    for name in HYPOTHESES:
        value, shape = arrays[name], (n, h, *TRAILING.get(name, ()))
        if value.shape != shape or value.dtype.kind != "f" or not np.isfinite(value).all():
            raise DataError(f"{name} has shape {value.shape} or unusable numbers, expected {shape}", where=where,
                            next_command=again)  # fmt: skip
    told = joint_set(text(arrays["joint_set"], "joint_set", where), where)
    names, pictures = (tuple(texts(arrays[key], key, where)) for key in ("names", "pictures"))
    shapes = {"keypoints": (n, len(told), 3), "box_centre": (n, 2), "box_side": (n,)}
    wrong = [key for key, shape in shapes.items() if arrays[key].shape != shape]
    if n < 1 or wrong or len(names) != n or len(pictures) not in (0, n):
        raise DataError(
            f"the file's people do not match its hypotheses: {', '.join(wrong) or 'their number'}", where=where,
            next_command=again,
        )  # fmt: skip
    hypotheses = Hypotheses(**{name: torch.from_numpy(arrays[name].astype(np.float32)) for name in HYPOTHESES})
    try:
        left_out = dict(json.loads(text(arrays["left_out"], "left_out", where)))
    except (ValueError, TypeError) as error:
        raise DataError("the file's list of people left out is damaged", where=where, next_command=again) from error
    return Lifted(
        hypotheses, told.name, arrays["keypoints"], names, found_places(pictures, where, version), arrays["box_centre"],
        arrays["box_side"], left_out, found_turned(version),
    )  # fmt: skip


def open_lifted_arrays(path: Path) -> dict[str, NDArray]:
    """Arrays of the file, each checked by itself later: they are of several lengths."""
    result: dict[str, NDArray] = {}
    for key in (*HYPOTHESES, *OTHERS):
        result |= open_arrays(path, (key,))
    return result
