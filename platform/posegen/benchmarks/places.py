"""Where the real data sets are: below one folder under the names that people give them, or each at its own place.

Names are compared without case, dashes and underscores; what a folder holds decides, in the original layout or in
SPIN's npz files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Found:
    """What a reader is given."""

    annotations: Path
    images: Path | None = None  # None: the reader's own default, beside the annotations


@dataclass(frozen=True)
class Place:
    """How a data set is recognised.

    Args:
        key: of the configuration's `data`; folders: usual names, without case, dashes and underscores;
        layouts: (pattern of files, how many levels above such a file the annotations are), the first that fits; a
            pattern may hold {split}.
        pictures: patterns of one picture where the reader's default is not enough, and the levels above it.
    """

    key: str
    folders: tuple[str, ...]
    layouts: tuple[tuple[str, int], ...]
    pictures: tuple[tuple[str, int], ...] = ()
    split: str = ""  # the default


_H36M = Place(
    "h36m",
    ("h36m", "human36m", "human36", "human3.6m"),
    (
        ("S9/MyPoseFeatures/D3_Positions_mono/*.cdf", 4),
        ("*/S9/MyPoseFeatures/D3_Positions_mono/*.cdf", 4),
        ("h36m_valid_protocol1.npz", 0),
        ("*/h36m_valid_protocol1.npz", 0),
    ),
    (("images/S9_*.jpg", 2), ("*/images/S9_*.jpg", 2)),
)
PLACES: dict[str, Place] = {
    "3dpw": Place(
        "pw3d",
        ("3dpw", "pw3d", "3dpwdataset"),
        (
            ("sequenceFiles/{split}/*.pkl", 3),
            ("*/sequenceFiles/{split}/*.pkl", 3),
            ("3dpw_{split}.npz", 0),
            ("*/3dpw_{split}.npz", 0),
        ),
        (("imageFiles/*/image_*.jpg", 3), ("*/imageFiles/*/image_*.jpg", 3)),
        "test",
    ),
    "mpi_inf_3dhp": Place(
        "mpi_inf_3dhp",
        ("mpiinf3dhp", "3dhp", "mpi3dhp", "mpiinf3dhptestset", "mpiinf3dhpdataset"),
        (
            ("mpi_inf_3dhp_test_set/TS*/annot_data.mat", 3),
            ("TS*/annot_data.mat", 2),
            ("*/mpi_inf_3dhp_test_set/TS*/annot_data.mat", 3),
            ("*/TS*/annot_data.mat", 2),
            ("mpi_inf_3dhp_valid.npz", 0),
            ("mpi_inf_3dhp_test.npz", 0),
        ),
    ),
    "ski_poseptz": Place(
        "ski_poseptz",
        ("skiposeptz", "skipose", "ski", "skiposeptzcameradatasetpng", "skiposeptzcameradataset", "skiptz"),
        (("{split}/labels.h5", 2), ("*/{split}/labels.h5", 2)),
        split="test",
    ),
    "agora": Place(
        "agora",
        ("agora", "agoradataset"),
        tuple((f"{'*/' * depth}*_withjv.pkl", 1) for depth in range(4)),
        tuple((f"{'*/' * depth}ag_validationset*.png", 1) for depth in range(4)),
    ),
    "h36m_p1": _H36M,
    "h36m_p2": _H36M,
    "emdb": Place("emdb", ("emdb", "emdb1"), (("P*/*/*_data.pkl", 3), ("*/P*/*/*_data.pkl", 3))),
}


def simple(name: str) -> str:
    """A folder's name as it is compared."""
    return re.sub(r"[-_ ]", "", name.lower())


def find(name: str, root: str | None, own: str | None, split: str = "") -> Found | str:
    """The data set's files, or a sentence that says where it was looked for.

    Args:
        root: the folder of all data sets; own: the place of this one, which may be a file of annotations.
        split: which of its splits has to be there; "": the usual one.
    """
    place = PLACES[name]
    wanted = [pattern.format(split=split or place.split) for pattern, _ in place.layouts]
    if own is not None:
        folder = Path(own).expanduser()
        if folder.is_file():
            return Found(folder)
        if not folder.is_dir():
            return f"data.{place.key}={own} is not there"
        return _in(place, folder, split) or f"data.{place.key}={own} holds none of {', '.join(wanted[:2])}"
    if root is None:
        return f"neither data=FOLDER nor data.{place.key}=FOLDER is given"
    above = Path(root).expanduser()
    if not above.is_dir():
        return f"data={root} is not there"
    named = [folder for folder in _folders(above) if simple(folder.name) in place.folders]
    for folder in named:
        if (found := _in(place, folder, split)) is not None:
            return found
    if named:
        return f"{named[0]} holds none of {', '.join(wanted[:2])}"
    return f"no folder {place.folders[0]} below {root}"


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _in(place: Place, folder: Path, split: str) -> Found | None:
    annotations = _first(folder, place.layouts, split or place.split)
    if annotations is None:
        return None
    return Found(annotations, _first(folder, place.pictures, ""))


def _first(folder: Path, patterns: tuple[tuple[str, int], ...], split: str) -> Path | None:
    """So many levels above the first visible file that fits; of SMPL's tables and SMPL-X's, SMPL's."""
    for pattern, levels in patterns:
        files = list(_some(folder, pattern.format(split=split)))
        if files:
            file = min(files, key=lambda path: ("smplx" in simple(str(path.relative_to(folder))), str(path)))
            return file if levels == 0 else file.parents[levels - 1]
    return None


def _some(folder: Path, pattern: str, most: int = 400) -> Iterator[Path]:
    """The first files that fit, without reading folders of tens of thousands of pictures to their end."""
    for number, path in enumerate(p for p in folder.glob(pattern) if not p.name.startswith(".")):
        if number == most:
            return
        yield path
