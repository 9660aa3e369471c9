"""Targets: COCO annotations and results, OpenPose's files, our own npz, boxes, and what lifting leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from posegen.body.joint_sets import COCO17, OPENPOSE25
from posegen.target.anchors import anchors_of
from posegen.target.lift.lifter import Hypotheses
from posegen.target.lifted import Lifted, read_lifted, write_lifted
from posegen.target.readers import read_keypoints
from posegen.target.readers.folders import people_of_pictures
from posegen.target.readers.own import write_target
from posegen.target.record import Target, boxes_of, usable

from ..format import Format
from ..pictures import PNG
from ..raw import RAW
from ..texts import JSON
from ..zips import NPZ

PEOPLE = 3


def formats() -> list[Format]:
    rng = np.random.default_rng(0)

    def points(joints: int) -> np.ndarray:
        found = rng.uniform(10, 90, (joints, 3))
        found[:, 2] = 0.9
        return found

    def annotations(folder: Path) -> Path:
        people = [
            {"image_id": 7 + i % 2, "keypoints": np.round(points(17)).flatten().tolist(), "bbox": [1, 2, 30, 40],
            "iscrowd": 0}
            for i in range(PEOPLE)
        ]  # fmt: skip
        content = {
            "images": [{"id": 7, "file_name": "a/one.jpg"}, {"id": 8, "file_name": "two.jpg"}], "annotations": people,
            "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.joints)}],
        }  # fmt: skip
        (folder / "coco.json").write_text(json.dumps(content))
        return folder / "coco.json"

    def results(folder: Path) -> Path:
        people = [{"image_id": i, "keypoints": points(17).flatten().tolist(), "score": 0.9} for i in range(PEOPLE)]
        (folder / "results.json").write_text(json.dumps(people))
        return folder / "results.json"

    def openpose(folder: Path) -> Path:
        for frame in range(PEOPLE):
            people = {"version": 1.3, "people": [{"pose_keypoints_2d": points(len(OPENPOSE25)).flatten().tolist()}]}
            (folder / f"video_{frame:012d}_keypoints.json").write_text(json.dumps(people))
        return folder / "video_000000000001_keypoints.json"

    def own(folder: Path) -> Path:
        keypoints = np.stack([points(17) for _ in range(PEOPLE)]).astype(np.float32)
        write_target(
            Target("coco17", keypoints, ("a", "b", "c"), boxes=np.full((PEOPLE, 4), 20.0), sequences=("s",) * PEOPLE,
                   frames=np.arange(PEOPLE)), folder / "own.npz",
        )  # fmt: skip
        return folder / "own.npz"

    def spin(folder: Path) -> Path:
        part = np.stack([points(24) for _ in range(PEOPLE)])
        np.savez(
            folder / "part.npz",
            part=part,
            imgname=np.array(["a.jpg", "b.jpg", "c.jpg"]),
            openpose=np.stack([points(25)] * PEOPLE),
        )
        return folder / "part.npz"

    def boxes(folder: Path) -> Path:
        (folder / "pictures").mkdir()
        for name in ("a.png", "b.png"):
            Image.new("RGB", (40, 30), 128).save(folder / "pictures" / name)
        (folder / "boxes.json").write_text(json.dumps({"a.png": [[1, 2, 30, 20]], "b.png": [5, 5, 10, 20]}))
        return folder / "boxes.json"

    def picture(folder: Path) -> Path:
        return boxes(folder).parent / "pictures" / "a.png"

    def lifted(folder: Path) -> Path:
        shapes = {"pose": (24, 3), "betas": (10,), "shift_m": (2,)}
        names = Hypotheses.__dataclass_fields__
        numbers = {name: torch.rand(PEOPLE, 2, *shapes.get(name, ())) + 0.1 for name in names}
        keypoints = np.stack([points(17) for _ in range(PEOPLE)]).astype(np.float32)
        write_lifted(
            Lifted(
                Hypotheses(**numbers),
                "coco17",
                keypoints,
                ("a", "b", "c"),
                (),
                np.zeros((PEOPLE, 2)),
                np.ones(PEOPLE),
                {"few": 1},
            ),
            folder / "lifted.npz",
        )
        return folder / "lifted.npz"

    def anchors(path: Path) -> Any:
        found = read_lifted(path)
        return found, anchors_of(found, 1.0)

    return [
        Format("coco.json", annotations, _target, JSON, RAW, _check_target, nan=("keypoints",)),
        Format("coco_results.json", results, _target, JSON, RAW, _check_target, nan=("keypoints",)),
        Format("openpose.json", openpose, lambda path: _used(read_keypoints(path.parent, None)), JSON, RAW,
        _check_target, nan=("keypoints",)),
        Format("target.npz", own, _target, NPZ, RAW, _check_target, nan=("keypoints",)),
        Format("target_spin.npz", spin, _target, NPZ, RAW, _check_target, nan=("keypoints",)),
        Format("boxes.json", boxes, lambda path: people_of_pictures(str(path.parent / "pictures"), str(path)), JSON,
        RAW,
               nan=("keypoints",)),
        Format("target_picture.png", picture, lambda path: people_of_pictures(str(path.parent)), PNG, RAW,
        nan=("keypoints",), weight=0.3),
        Format("lifted.npz", lifted, anchors, NPZ, RAW, nan=("keypoints",)),
    ]  # fmt: skip


def _target(path: Path) -> Any:
    return _used(read_keypoints(path, None))


def _used(target: Target) -> Any:
    """What lifting takes of it: the people who can be used, and the squares around them."""
    people = usable(target, 0.1, 4)
    return target, people, boxes_of(people.keypoints)


def _check_target(read: Any) -> None:
    target, people, (centre, side) = read
    assert np.isfinite(people.keypoints).all(), "usable people with NaN"
    assert 0 < len(people) <= len(target) and (side > 0).all() and np.isfinite(centre).all(), "boxes"
    assert ((people.keypoints[..., 2] >= 0) & (people.keypoints[..., 2] <= 1)).all(), "confidences"
    assert np.abs(people.keypoints[..., :2]).max() < 1e7, "points beyond any picture"
