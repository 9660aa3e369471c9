"""Folders of pictures, boxes in them, and which picture belongs to which person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from posegen.body.joint_sets import BLAZEPOSE33
from posegen.errors import DataError
from posegen.target.readers.opening import open_json, picture_size
from posegen.target.record import Target

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def picture_names(folder: str | Path) -> dict[str, str]:
    """Pictures below a folder: name relative to it -> path, in order of name. Raises DataError when there is none."""
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DataError("the folder of pictures is not there", where=root, next_command="target.images=FOLDER")
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise DataError("no picture in the folder", where=root, choices=SUFFIXES)
    return {path.relative_to(root).as_posix(): str(path) for path in found}


def matched(people: Sequence[str], pictures: dict[str, str], folder: str, keypoints: str) -> list[str]:
    """The picture of each person by name: with or without folder, suffix and the person's number.

    Raises DataError when a person's picture is not there: keypoints of other pictures teach nonsense.
    """
    by_name: dict[str, str | None] = {}
    for name, path in pictures.items():
        for key in {name, PurePosixPath(name).name, str(PurePosixPath(name).with_suffix("")), PurePosixPath(name).stem}:
            by_name[key] = None if by_name.get(key, path) != path else path  # None: two pictures of that name
    found: list[str] = []
    missing: list[str] = []
    doubtful: list[str] = []
    for person in people:
        told = PurePosixPath(person.rpartition("#")[0] or person)
        bare = str(told.with_suffix("")) if told.name else ""
        key = next((key for key in (str(told), bare, told.name, told.stem) if key in by_name), None)
        picture = None if key is None else by_name[key]
        if key is None:
            missing.append(str(told))
        elif picture is None:
            doubtful.append(str(told))
        found.append(picture or "")
    for bad, why in ((missing, "are not in the folder"), (doubtful, "have several pictures of that name")):
        if bad:
            raise DataError(
                f"pictures and keypoints do not belong together: pictures of {len(bad)} of {len(people)} people {why}, "
                f"such as {bad[0]!r}; the folder has {next(iter(pictures))!r}",
                where=f"target.images={folder} target.keypoints={keypoints}",
            )  # fmt: skip
    return found


def people_of_pictures(folder: str, boxes: str | None = None) -> Target:
    """One person a picture, or one a box; their keypoints are still to be detected (NaN).

    Args:
        boxes: JSON file {"name": [x, y, width, height] or a list of those}, px of the picture.
    """
    pictures = picture_names(folder)
    rows: list[tuple[str, str, list[float]]] = []
    damaged: list[DataError] = []
    told = _read_boxes(Path(boxes).expanduser(), pictures) if boxes else None
    for name, path in pictures.items():
        if told is None:
            try:
                width, height = picture_size(path)
            except DataError as error:  # one damaged picture of many is no reason to lose the others
                damaged.append(error)
                continue
            rows.append((name, path, [0.0, 0.0, float(width), float(height)]))
        else:
            rows += [(f"{name}#{i}", path, box) for i, box in enumerate(told.get(name, []))]
    without = 0 if told is None else sum(not told.get(name) for name in pictures)
    if damaged and not rows:
        raise damaged[0]
    if not rows:
        raise DataError("no box for any picture", where=boxes)
    counts = {"pictures without a box": without, "pictures that cannot be read": len(damaged)}
    left_out = {reason: count for reason, count in counts.items() if count}
    return Target(
        BLAZEPOSE33.name,
        np.full((len(rows), len(BLAZEPOSE33), 3), np.nan, np.float32),
        tuple(row[0] for row in rows),
        tuple(row[1] for row in rows),
        np.array([row[2] for row in rows], np.float64),
        left_out=left_out,
    )


def _read_boxes(path: Path, pictures: dict[str, str]) -> dict[str, list[list[float]]]:
    content = open_json(path)
    if not isinstance(content, dict):
        raise DataError('boxes are {"picture.jpg": [[x, y, width, height], ...]}', where=path)
    result: dict[str, list[list[float]]] = {}
    for name, value in content.items():
        if name not in pictures:
            raise DataError(
                f"pictures and boxes do not belong together: {name!r} is not in the folder, which has "
                f"{next(iter(pictures))!r}", where=path,
            )  # fmt: skip
        try:
            boxes = np.asarray(value, np.float64).reshape(-1, 4)
        except (ValueError, TypeError) as error:
            raise DataError(f"the boxes of {name!r} are not [x, y, width, height]", where=path) from error
        if not np.isfinite(boxes).all() or (boxes[:, 2:] <= 0).any():
            raise DataError(f"a box of {name!r} has no size", where=path)
        result[name] = boxes.tolist()
    return result
