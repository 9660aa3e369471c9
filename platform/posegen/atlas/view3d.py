"""People of the atlas to be turned on the page: what the script in templates/view3d.html is given.

Dimensions: K people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.atlas.analysis import Atlas
from posegen.atlas.pose_facts import Numbers
from posegen.body.joint_sets import SMPL24
from posegen.tracking.report.pictures import Pixels, encode
from posegen.tracking.report.style import data_uri

# Bones between joints that estimators of fewer joints have, drawn where SMPL's own are missing.
_BRIDGES = (
    ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder"), ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"),
)  # fmt: skip
DECIMALS = 3  # mm


def chosen_rows(atlas: Atlas, shown: Sequence[Sequence[int]], count: int) -> list[int]:
    """Rows to turn: of each shown group in turn its pictures, so that each group has about as many."""
    rows: list[int] = []
    for place in range(max(map(len, shown), default=0)):
        rows += [group[place] for group in shown if place < len(group)]
    return sorted(rows[:count], key=lambda row: (int(atlas.of_group[row]), -float(atlas.errors_mm[row])))


def scene_data(atlas: Atlas, rows: Sequence[int], pictures: Mapping[int, Pixels]) -> dict[str, Any]:
    """The people with their bones, in metres about the pelvis, world axes (y up).

    Args:
        pictures: row -> (H,W,3).
    """
    bridges = [[SMPL24.index(a), SMPL24.index(b)] for a, b in _BRIDGES]
    return {
        "bones": [list(edge) for edge in SMPL24.edge_indices],
        "bridges": bridges,
        "left": SMPL24.index("left_wrist"),
        "right": SMPL24.index("right_wrist"),
        "people": [_person(atlas, row, pictures[row]) for row in rows],
    }


def _person(atlas: Atlas, row: int, picture: Pixels) -> dict[str, Any]:
    sample, group = atlas.sample, atlas.group_of(row)
    rotation, pelvis = sample.camera_R[row], sample.joints_cam_m[row, 0]

    def placed(joints_cam_m: Numbers) -> list[list[float] | None]:
        world = (joints_cam_m - pelvis) @ rotation  # R^T x for each joint
        return [[round(float(v), DECIMALS) for v in point] if np.isfinite(point).all() else None for point in world]

    towards = -pelvis @ rotation
    person = {
        "title": f"{group.number}. {group.name}",
        "row": f"{sample.source[row]} {int(sample.row_id[row])}",
        "before_mm": round(float(atlas.errors_mm[row])),
        "truth": placed(sample.joints_cam_m[row]),
        "before": placed(atlas.before.predicted_cam_m[row]),
        "camera": [round(float(v), DECIMALS) for v in towards / max(float(np.linalg.norm(towards)), 1e-9)],
        "picture": data_uri(encode(picture, "jpeg"), "image/jpeg"),
    }
    if atlas.after is not None and atlas.after_mm is not None:
        person |= {"after_mm": round(float(atlas.after_mm[row])), "after": placed(atlas.after.predicted_cam_m[row])}
    return person


def script_json(value: Any) -> str:
    """JSON that may stand inside a <script> element: nothing in it can end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def largest(pictures: Mapping[int, NDArray[np.uint8]]) -> int:
    """The side of the largest picture, px."""
    return max((max(picture.shape[:2]) for picture in pictures.values()), default=1)
