"""COCO keypoints: annotation files, and result files of detectors.

Annotations (cocodataset.org/#format-data): `images` with id, file_name, and mostly width and height; `annotations` with
image_id, keypoints as [x1, y1, v1, ...] with v = 0 not labelled, 1 hidden, 2 seen; `categories` with the keypoints'
names. Results: a list of {image_id, keypoints, score}, where the third number of a keypoint is a confidence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.body.joint_sets import COCO17, JOINT_SETS, JointSet
from posegen.body.joint_sets import joint_set as named
from posegen.errors import DataError
from posegen.target.readers.opening import open_json
from posegen.target.record import FARTHEST_PX, Target

VISIBILITY = np.array([0.0, 0.6, 1.0], np.float32)  # confidence of not labelled, hidden, seen


def read_coco(path: Path, joint_set: str | None = None) -> Target:
    """The people of a COCO file. Those without keypoints (crowds, num_keypoints 0) are counted as left out."""
    content = open_json(path)
    results = isinstance(content, list)
    entries = content if results else content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise DataError("neither COCO annotations nor results: no list of people", where=path,
                        choices=("annotations", "a list of results"))  # fmt: skip
    names = named(joint_set, "target.joint_set") if joint_set else COCO17
    if not results:
        names = _checked(content.get("categories"), names, joint_set, path)
    files, told = ({}, {}) if results else _files(content.get("images"), path)
    rows: list[NDArray[np.float32]] = []
    labels, boxes, sizes, empty = [], [], [], 0
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or "image_id" not in entry:
            raise DataError(f"person {number} has no image_id", where=path)
        values = entry.get("keypoints")
        if not values or entry.get("iscrowd"):
            empty += 1
            continue
        points = _points(values, names, number, path)
        if not results:
            points[:, 2] = VISIBILITY[np.clip(points[:, 2], 0, 2).astype(int)]
        points[:, 2] = points[:, 2].clip(0, 1)
        image = entry["image_id"]
        if not isinstance(image, int | str):
            raise DataError(f"person {number} has the image_id {str(image)[:40]!r}", where=path)
        if files and image not in files:
            raise DataError(f"person {number} is in picture {image!r}, which the file does not list", where=path)
        rows.append(points)
        labels.append(f"{files.get(image, image)}#{number}")
        boxes.append(_box(entry.get("bbox")))
        sizes.append(told.get(image, (0, 0)))
    keypoints = np.stack(rows) if rows else np.zeros((0, len(names), 3), np.float32)
    known = np.array([box for box in boxes if box is not None], np.float64)
    return Target(
        names.name, keypoints, tuple(labels), boxes=known if len(known) == len(rows) and rows else None,
        left_out={"no keypoints in the file": empty} if empty else {},
        sizes=np.array(sizes, np.int64) if any(map(any, sizes)) else None,
    )  # fmt: skip


def _files(images: Any, path: Path) -> tuple[dict[Any, str], dict[Any, tuple[int, int]]]:
    """Names of the pictures, and width and height of those of which the file tells both."""
    if not isinstance(images, list):
        raise DataError("COCO annotations without a list of images", where=path, choices=("images",))
    try:
        names = {image["id"]: str(image["file_name"]) for image in images}
    except (KeyError, TypeError) as error:
        raise DataError(f"a picture of the list has no id or file_name ({error})", where=path) from error
    told = {image["id"]: (image.get("width"), image.get("height")) for image in images}
    return names, {key: size for key, size in told.items() if all(isinstance(v, int) and v > 0 for v in size)}


def _points(values: Any, names: JointSet, number: int, path: Path) -> NDArray[np.float32]:
    try:
        points = np.asarray(values, np.float32)
    except (ValueError, TypeError) as error:
        raise DataError(f"the keypoints of person {number} are no numbers", where=path) from error
    if points.size != 3 * len(names):
        fitting = [s.name for s in JOINT_SETS.values() if 3 * len(s) == points.size]
        raise DataError(
            f"person {number} has {points.size / 3:g} keypoints, {names.name} has {len(names)}: another joint set?",
            where=path, choices=fitting or JOINT_SETS, next_command="target.joint_set=NAME",
        )  # fmt: skip
    if not np.isfinite(points).all():
        raise DataError(f"the keypoints of person {number} are not finite", where=path)
    return points.reshape(-1, 3).copy()


def _checked(categories: Any, names: JointSet, chosen: str | None, path: Path) -> JointSet:
    """The joint set, after a look at the names that the file itself gives."""
    told = categories[0].get("keypoints") if isinstance(categories, list) and categories and isinstance(
        categories[0], dict) else None  # fmt: skip
    if not isinstance(told, list) or not told or chosen is not None:  # none named is as good as no list
        return names
    said = tuple(str(joint) for joint in told)
    for known in JOINT_SETS.values():
        if known.joints == said:
            return known
    if len(said) == len(names) and {j for j in said if j in names.joints} == set():
        return names  # names of its own for joints that are in COCO's order, as far as can be told
    raise DataError(
        f"the file's keypoints are {', '.join(said[:6])}...: not those of {names.name}",
        where=path, choices=JOINT_SETS, next_command="target.joint_set=NAME",
    )  # fmt: skip


def _box(value: Any) -> list[float] | None:
    if (
        isinstance(value, list)
        and len(value) == 4
        and all(isinstance(v, int | float) and abs(v) <= FARTHEST_PX for v in value)
    ):
        return [float(v) for v in value]
    return None
