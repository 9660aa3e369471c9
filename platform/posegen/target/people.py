"""The target's usable people as a run keeps them: keypoints, pictures, boxes, and who is held out.

People held out are neither lifted nor trained on: an estimator's reprojection error on them, before and after, is a
result that needs no 3-D truth. Pictures are held out whole, recordings in blocks of frames.

Dimensions: N people, K joints.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.assets.cache import replacing
from posegen.errors import DataError
from posegen.files.versions import checked_format
from posegen.target.places import FORMAT, found_places, found_turned, told_format, told_places
from posegen.target.readers.opening import open_arrays
from posegen.target.record import Target, boxes_of

BLOCK_FRAMES = 50
HELD_MOST = 2000  # people: enough to tell errors to a per cent
BOX_FACTOR = 1.2  # of the square around keypoints where no box is given, as benchmarks crop
REQUIRED = ("keypoints", "joint_set", "names", "held", "centre", "side")
OPTIONAL = ("pictures", "sequences", "frames", "version")


@dataclass(frozen=True)
class People:
    """Who the target shows.

    Attributes:
        target: keypoints all known.
        held: (N,) bool, held out.
        centre: (N,2) px, side (N,) px: the square box of each person.
    """

    target: Target
    held: NDArray[np.bool_]
    centre: NDArray[np.float64]
    side: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.target)

    def pick(self, rows: NDArray) -> People:
        """The people of some rows (indices or a mask)."""
        return People(self.target.pick(rows), self.held[rows], self.centre[rows], self.side[rows])

    @property
    def shown(self) -> People:
        """Those that may be lifted and trained on."""
        return self.pick(~self.held)

    @property
    def kept_back(self) -> People:
        """Those that are only measured on."""
        return self.pick(self.held)


def people_of(target: Target, held_share: float) -> People:
    """Usable people with their boxes, some of them held out."""
    if target.boxes is not None:
        centre = target.boxes[:, :2] + target.boxes[:, 2:] / 2
        side = target.boxes[:, 2:].max(1)
    else:
        centre, side = boxes_of(target.keypoints)
        side = side * BOX_FACTOR
    return People(target, held_out(target, held_share), centre, side)


def held_out(target: Target, share: float) -> NDArray[np.bool_]:
    """Which people (N,) are held out: about a share of the pictures, or of the recordings' blocks; at most HELD_MOST.

    A function of the names alone, so that the same pictures are held out whatever their order. Of a target of fewer
    than four pictures none is.
    """
    units = np.array([_unit(target, row) for row in range(len(target))])
    names, counts = np.unique(units, return_counts=True)
    wanted = round(share * len(names))
    if share <= 0 or len(names) < 4:
        return np.zeros(len(target), bool)
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(str(names[i]).encode()).hexdigest())
    order = order[: max(1, min(wanted, len(names) - 1))]
    people = np.cumsum(counts[order])
    order = order[: max(1, int((people <= HELD_MOST).sum()))]
    return np.isin(units, names[order])


def _unit(target: Target, row: int) -> str:
    if target.sequences and target.sequences[row] and target.frames is not None:
        return f"{target.sequences[row]}:{int(target.frames[row]) // BLOCK_FRAMES}"
    if target.pictures:
        return target.pictures[row].replace("\\", "/").rsplit("/", 1)[-1] + target.names[row].rpartition("#")[0]
    return target.names[row].rpartition("#")[0] or target.names[row]


def write_people(people: People, path: Path) -> Path:
    """Writes the file, whole or not at all."""
    target = people.target
    arrays: dict[str, Any] = {
        "keypoints": target.keypoints, "joint_set": np.array([target.joint_set]), "names": np.array(target.names),
        "held": people.held.astype(np.uint8), "centre": people.centre, "side": people.side,
        "pictures": told_places(target.pictures, path), "sequences": np.array(target.sequences, dtype=np.str_),
        "version": told_format(target.turned),
    }  # fmt: skip
    if target.frames is not None:
        arrays["frames"] = target.frames
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)
    return path


def read_people(path: Path) -> People:
    """The file of a run's target. Raises DataError."""
    again = "posegen run ... run.restart=true"
    if not path.is_file():
        raise DataError("the target's people are not there", where=path, next_command=again)
    arrays: dict[str, NDArray] = {}
    for key in (*REQUIRED, *OPTIONAL):  # of several lengths: each is checked by itself
        arrays |= open_arrays(path, (key,))
    missing = [key for key in REQUIRED if key not in arrays]
    n = len(arrays["keypoints"]) if "keypoints" in arrays else 0
    if missing or n == 0 or any(len(arrays[key]) != n for key in ("names", "held", "centre", "side")):
        raise DataError(f"no file of a target's people: {', '.join(missing) or 'its parts differ in length'}",
                        where=path, next_command=again)  # fmt: skip
    version = checked_format(arrays.get("version"), FORMAT, "the target's people", path, again)
    target = Target(
        str(arrays["joint_set"][0]), arrays["keypoints"].astype(np.float32), tuple(arrays["names"].tolist()),
        found_places(arrays["pictures"].tolist() if "pictures" in arrays else (), path, version),
        sequences=tuple(arrays["sequences"].tolist()) if "sequences" in arrays else (),
        frames=arrays.get("frames"), turned=found_turned(version),
    )  # fmt: skip
    return People(target, arrays["held"].astype(bool), arrays["centre"], arrays["side"])
