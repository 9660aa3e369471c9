"""A folder of OpenPose's JSON files: NAME_keypoints.json for each picture or frame, with all people in it.

`people[i].pose_keypoints_2d` is [x1, y1, c1, ...] of BODY_25, or of the 18 COCO joints. Files with a number in their
name and one person each are frames of a recording.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np

from posegen.body.joint_sets import COCO18, JOINT_SETS, OPENPOSE25
from posegen.body.joint_sets import joint_set as named
from posegen.errors import DataError
from posegen.target.readers.opening import open_json
from posegen.target.record import Target

SUFFIX = "_keypoints.json"
_MOST_DIGITS = 15  # of a frame in a file's name; dates and times to the microsecond have more, and begin alike
BY_LENGTH = {3 * len(names): names for names in (OPENPOSE25, COCO18)}


def read_openpose(folder: Path, joint_set: str | None = None) -> Target:
    """The people of all files below the folder, in order of name."""
    files = sorted(folder.rglob(f"*{SUFFIX}"))
    if not files:
        raise DataError(f"no *{SUFFIX} in the folder", where=folder)
    names = named(joint_set, "target.joint_set") if joint_set else None
    rows, labels, recordings, frames, empty = [], [], [], [], 0
    for file in files:
        content = open_json(file)
        people = content.get("people") if isinstance(content, dict) else None
        if not isinstance(people, list):
            raise DataError("no list of people: not a file of OpenPose's", where=file, choices=("people",))
        empty += not people
        stem = str(file.relative_to(folder))[: -len(SUFFIX)]
        digits = re.search(r"^(.*?)(\d+)\D*$", stem)
        for number, person in enumerate(people):
            values = person.get("pose_keypoints_2d") if isinstance(person, dict) else None
            try:
                points = np.asarray(values, np.float32)
            except (ValueError, TypeError) as error:
                raise DataError(f"the keypoints of person {number} are no numbers", where=file) from error
            if names is None:
                names = BY_LENGTH.get(points.size)
            if names is None or points.size != 3 * len(names):
                raise DataError(
                    f"person {number} has {points.size / 3:g} keypoints, not those of "
                    f"{names.name if names else 'OpenPose'}",
                    where=file, choices=JOINT_SETS, next_command="target.joint_set=NAME",
                )  # fmt: skip
            rows.append(points.reshape(-1, 3))
            labels.append(f"{stem}#{number}")
            recordings.append(digits[1] if digits and len(people) == 1 else "")
            frames.append(int(digits[2][-_MOST_DIGITS:]) if digits else 0)
    kept = Counter(recordings)
    recordings = [name if name and kept[name] > 1 else "" for name in recordings]
    names = names or OPENPOSE25
    keypoints = np.stack(rows) if rows else np.zeros((0, len(names), 3), np.float32)
    keypoints[..., 2] = keypoints[..., 2].clip(0, 1)
    return Target(
        names.name, keypoints, tuple(labels), sequences=tuple(recordings), frames=np.array(frames, np.int64),
        left_out={"files without a person": empty} if empty else {},
    )  # fmt: skip
