"""Folders of pictures, boxes in them, and which picture belongs to which person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from posegen.body.joint_sets import BLAZEPOSE33
from posegen.errors import DataError
from posegen.target.readers.opening import lies_on_its_side, open_json, picture_size
from posegen.target.record import Target

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
# Pictures, too, which are not opened: they are counted, so that nobody believes that they were looked at.
NOT_READ = (".avif", ".gif", ".heic", ".heif", ".tif", ".tiff", ".arw", ".cr2", ".cr3", ".dng", ".nef")


def picture_names(folder: str | Path) -> dict[str, str]:
    """Pictures below a folder: name relative to it -> path, in order of name. Raises DataError when there is none."""
    return _below(Path(folder).expanduser())[0]


def _below(root: Path) -> tuple[dict[str, str], dict[str, int]]:
    """picture_names, and how many pictures are of kinds which are not read, by the reason."""
    if not root.is_dir():
        raise DataError("the folder of pictures is not there", where=root, next_command="target.images=FOLDER")
    files = [path for path in root.rglob("*") if path.suffix.lower() in (*SUFFIXES, *NOT_READ) and path.is_file()]
    found = sorted(path for path in files if path.suffix.lower() in SUFFIXES)
    kinds = sorted({path.suffix.lower() for path in files} - set(SUFFIXES))
    others = len(files) - len(found)
    left_out = {f"pictures of a kind that is not read ({', '.join(kinds)})": others} if others else {}
    if not found:
        told = ["no picture in the folder", *(f"{count} {reason}" for reason, count in left_out.items())]
        raise DataError("; ".join(told), where=root, choices=SUFFIXES)
    return {path.relative_to(root).as_posix(): str(path) for path in found}, left_out


def matched(people: Sequence[str], pictures: dict[str, str], folder: str, keypoints: str) -> list[str]:
    """The picture of each person by name, with or without the person's number and the picture's suffix.

    Either path may begin further up: a/b.jpg of the keypoints is b.jpg of the folder a, and b.jpg is x/b.jpg if no
    other folder has one; but seq1/b.jpg is never seq2/b.jpg.

    Raises DataError when a person's picture is not there: keypoints of other pictures teach nonsense.
    """
    whole: dict[str, str | None] = {}
    ends: dict[str, str | None] = {}  # None: several pictures of that name
    for name, path in pictures.items():
        for spelt in (name, str(PurePosixPath(name).with_suffix(""))):
            whole[spelt] = None if whole.get(spelt, path) != path else path
            for end in _ends(spelt):
                ends[end] = None if ends.get(end, path) != path else path
    found: list[str] = []
    missing: list[str] = []
    doubtful: list[str] = []
    for person in people:
        told = person.rpartition("#")[0] or person
        longest = next((end for end in _ends(told) if end in whole), None)
        picture: str | None
        if longest is not None:
            picture = whole[longest]
        elif told in ends:
            picture = ends[told]
        else:
            missing.append(told)
            continue
        if picture is None:
            doubtful.append(told)
            continue
        found.append(picture)
    for bad, why in ((missing, "are not in the folder"), (doubtful, "have several pictures of that name")):
        if bad:
            raise DataError(
                f"pictures and keypoints do not belong together: pictures of {len(bad)} of {len(people)} people {why}, "
                f"such as {bad[0]!r}; the folder has {next(iter(pictures))!r}",
                where=f"target.images={folder} target.keypoints={keypoints}",
            )  # fmt: skip
    return found


def _ends(name: str) -> list[str]:
    """a/b/c.jpg, b/c.jpg, c.jpg."""
    parts = PurePosixPath(name).parts
    return ["/".join(parts[start:]) for start in range(len(parts))]


def counts_turned(target: Target, keypoints: str) -> bool:
    """Whether keypoints count the pixels of pictures as viewers show them, and not as they are stored.

    It can be told where a picture lies on its side, and its size is told with the keypoints: most programs that read or
    annotate photos turn them first.

    Raises DataError when some of them are turned and others are not.
    """
    found: dict[bool, str] = {}
    sizes = () if target.sizes is None else target.sizes.tolist()
    for path, (width, height) in dict(zip(target.pictures, sizes, strict=False)).items():
        if width == height:  # or none is told
            continue
        try:
            if lies_on_its_side(path):
                stored = picture_size(path)
                found |= {turned: path for turned in (False, True) if (width, height) == stored[:: -1 if turned else 1]}
        except DataError:
            continue  # a picture that cannot be read is left out, and told, when its turn comes
    if len(found) == 2:
        raise DataError(
            f"keypoints of pictures as they are stored ({Path(found[False]).name}) and as viewers show them "
            f"({Path(found[True]).name}), by the sizes that are told", where=keypoints,
            next_command="turn the files as their EXIF orientation says, or list the pictures' sizes alike",
        )  # fmt: skip
    return True in found


def people_of_pictures(folder: str, boxes: str | None = None) -> Target:
    """One person a picture, which is turned as viewers show it, or one a box; their keypoints are still to be detected
    (NaN).

    Args:
        boxes: JSON file {"name": [x, y, width, height] or a list of those}, px of the picture as stored.
    """
    pictures, not_read = _below(Path(folder).expanduser())
    rows: list[tuple[str, str, list[float]]] = []
    damaged: list[DataError] = []
    told = _read_boxes(Path(boxes).expanduser(), pictures) if boxes else None
    for name, path in pictures.items():
        if told is None:
            try:
                width, height = picture_size(path, turned=True)
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
    left_out = {reason: count for reason, count in counts.items() if count} | not_read
    return Target(
        BLAZEPOSE33.name,
        np.full((len(rows), len(BLAZEPOSE33), 3), np.nan, np.float32),
        tuple(row[0] for row in rows),
        tuple(row[1] for row in rows),
        np.array([row[2] for row in rows], np.float64),
        left_out=left_out,
        turned=told is None,
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
