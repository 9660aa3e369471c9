"""Readers of keypoints and pictures: the four formats, and what is wrong with files that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from posegen.body.joint_sets import COCO17, OPENPOSE25
from posegen.errors import ConfigError, DataError
from posegen.target.config import TargetConfig
from posegen.target.readers import read_keypoints, read_target
from posegen.target.readers.own import write_target
from posegen.target.record import Target, boxes_of, usable


def person(joints: int, seed: int = 0, confidence: float = 0.9) -> np.ndarray:
    points = np.random.default_rng(seed).uniform(10, 90, (joints, 3)).astype(np.float32)
    points[:, 2] = confidence
    return points


def coco(path: Path, people: list[Any], **more: Any) -> Path:
    content = {
        "images": [{"id": 7, "file_name": "a/one.jpg"}, {"id": 8, "file_name": "two.jpg"}],
        "annotations": people,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.joints)}],
        **more,
    }
    path.write_text(json.dumps(content))
    return path


def test_coco_annotations(tmp_path: Path) -> None:
    first = person(17)
    first[:, 2] = 2
    first[3, 2], first[4, 2] = 0, 1
    people = [
        {"image_id": 7, "keypoints": first.flatten().tolist(), "bbox": [1, 2, 3, 4]},
        {"image_id": 8, "keypoints": [], "num_keypoints": 0},
    ]
    target = read_keypoints(coco(tmp_path / "k.json", people), None)
    assert target.joint_set == "coco17"
    assert target.names == ("a/one.jpg#0",)
    np.testing.assert_allclose(target.keypoints[0, :, :2], first[:, :2], atol=1e-4)
    assert target.keypoints[0, [0, 3, 4], 2].tolist() == pytest.approx([1.0, 0.0, 0.6])
    assert target.left_out == {"no keypoints in the file": 1}
    assert target.boxes is not None
    assert target.boxes.tolist() == [[1, 2, 3, 4]]


def test_coco_results_keep_their_confidences(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps([{"image_id": 3, "keypoints": person(17, confidence=0.37).flatten().tolist()}]))
    target = read_keypoints(path, None)
    assert target.names == ("3#0",)
    assert target.keypoints[0, :, 2].tolist() == pytest.approx([0.37] * 17)


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ([{"image_id": 7, "keypoints": [1.0] * 75}], "has 25 keypoints, coco17 has 17"),
        ([{"image_id": 9, "keypoints": [1.0] * 51}], "which the file does not list"),
        ([{"image_id": 7, "keypoints": ["x"] * 51}], "no numbers"),
        ([{"keypoints": [1.0] * 51}], "no image_id"),
    ],
)
def test_coco_that_is_none(tmp_path: Path, people: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_keypoints(coco(tmp_path / "k.json", people), None)


def test_other_files_are_told_apart(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("[" * 100000)
    with pytest.raises(DataError, match="cannot be read"):
        read_keypoints(bad, None)
    bad.write_text('{"people": 3}')
    with pytest.raises(DataError, match="no list of people"):
        read_keypoints(bad, None)
    odd = [{"id": 1, "keypoints": [f"point{i}" for i in range(14)]}]
    with pytest.raises(DataError, match="not those of coco17"):
        read_keypoints(coco(tmp_path / "k.json", [], categories=odd), None)
    for unnamed in ([{"id": 1, "keypoints": []}], [{"id": 1}], []):
        people = [{"image_id": 7, "keypoints": person(17).flatten().tolist()}]
        assert len(read_keypoints(coco(tmp_path / "u.json", people, categories=unnamed), None)) == 1
    (tmp_path / "k.csv").write_text("1")
    with pytest.raises(DataError, match="unknown kind"):
        read_keypoints(tmp_path / "k.csv", None)
    with pytest.raises(DataError, match="not there"):
        read_keypoints(tmp_path / "none.npz", None)


def test_openpose_folder(tmp_path: Path) -> None:
    for frame, people in ((1, 1), (2, 1), (3, 2), (4, 0)):
        values = [{"pose_keypoints_2d": person(25, 10 * frame + i).flatten().tolist()} for i in range(people)]
        (tmp_path / f"walk_{frame:03d}_keypoints.json").write_text(json.dumps({"people": values}))
    target = read_keypoints(tmp_path, None)
    assert target.joint_set == OPENPOSE25.name
    assert target.names == ("walk_001#0", "walk_002#0", "walk_003#0", "walk_003#1")
    assert target.sequences == ("walk_", "walk_", "", "")
    assert target.frames is not None
    assert target.frames.tolist() == [1, 2, 3, 3]
    np.testing.assert_allclose(target.keypoints[2], person(25, 30), atol=1e-4)
    assert target.left_out == {"files without a person": 1}
    (tmp_path / "x_keypoints.json").write_text(json.dumps({"people": [{"pose_keypoints_2d": [1.0] * 99}]}))
    with pytest.raises(DataError, match="33 keypoints"):
        read_keypoints(tmp_path, None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="in the folder"):
        read_keypoints(tmp_path / "empty", None)


def test_spin_npz_takes_the_kind_that_sees_something(tmp_path: Path) -> None:
    part = np.stack([person(24), person(24, 1)])
    np.savez(tmp_path / "s.npz", part=part, openpose=np.zeros((2, 25, 3)), imgname=np.array(["x.jpg", "y.jpg"]))
    target = read_keypoints(tmp_path / "s.npz", None)
    assert (target.joint_set, target.names) == ("spin24", ("x.jpg#0", "y.jpg#1"))
    np.testing.assert_allclose(target.keypoints, part)
    assert read_keypoints(tmp_path / "s.npz", "openpose25").joint_set == "openpose25"
    np.savez(tmp_path / "s.npz", part=part[:, :20])
    with pytest.raises(DataError, match="another joint set"):
        read_keypoints(tmp_path / "s.npz", None)


def test_our_own_format_comes_back(tmp_path: Path) -> None:
    target = Target(
        "coco17", np.stack([person(17), person(17, 1)]), ("a", "b"), boxes=np.ones((2, 4)), sequences=("s", "s"),
        frames=np.array([3, 4]),
    )  # fmt: skip
    back = read_keypoints(write_target(target, tmp_path / "t.npz"), None)
    assert back.digest() == target.digest()
    assert (back.sequences, back.names) == (target.sequences, target.names)
    with pytest.raises(DataError, match="joint set is coco17"):
        read_keypoints(tmp_path / "t.npz", "limbs12")
    np.savez(tmp_path / "p.npz", keypoints=np.array([object()], object), joint_set=np.array(["coco17"]))
    with pytest.raises(DataError):
        read_keypoints(tmp_path / "p.npz", None)


def pictures(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40)).save(folder / name)
    return folder


def test_pictures_are_found_by_name(tmp_path: Path) -> None:
    people = [{"image_id": i, "keypoints": person(17).flatten().tolist()} for i in (7, 8, 7)]
    file = coco(tmp_path / "k.json", people)
    folder = pictures(tmp_path / "p", ["one.jpg", "deep/two.jpg", "more.jpg"])
    target = read_target(TargetConfig(images=str(folder), keypoints=str(file)))
    assert [Path(path).name for path in target.pictures] == ["one.jpg", "two.jpg", "one.jpg"]
    other = pictures(tmp_path / "q", ["one.jpg", "three.jpg"])
    with pytest.raises(DataError, match="do not belong together: pictures of 1 of 3 people are not in the folder"):
        read_target(TargetConfig(images=str(other), keypoints=str(file)))
    moved = pictures(tmp_path / "s", ["b/one.jpg", "two.jpg"])
    with pytest.raises(DataError, match="do not belong together: pictures of 2 of 3"):
        read_target(TargetConfig(images=str(moved), keypoints=str(file)))
    double = pictures(tmp_path / "r", ["one.jpg", "x/two.jpg", "y/two.jpg"])
    with pytest.raises(DataError, match="several pictures of that name"):
        read_target(TargetConfig(images=str(double), keypoints=str(file)))


def test_pictures_alone_and_their_boxes(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", ["one.png", "two.png"])
    (folder / "broken.png").write_bytes(b"no picture")
    target = read_target(TargetConfig(images=str(folder)))
    assert target.names == ("one.png", "two.png")
    assert not target.detected
    assert target.boxes is not None
    assert target.boxes.tolist() == [[0, 0, 60, 40]] * 2
    assert target.left_out == {"pictures that cannot be read": 1}
    boxes = tmp_path / "b.json"
    boxes.write_text(json.dumps({"two.png": [[1, 2, 30, 20], [5, 5, 10, 10]]}))
    target = read_target(TargetConfig(images=str(folder), boxes=str(boxes)))
    assert target.names == ("two.png#0", "two.png#1")
    boxes.write_text(json.dumps({"four.png": [1, 2, 3, 4]}))
    with pytest.raises(DataError, match="do not belong together"):
        read_target(TargetConfig(images=str(folder), boxes=str(boxes)))
    boxes.write_text(json.dumps({"two.png": [1, 2, -3, 4]}))
    with pytest.raises(DataError, match="no size"):
        read_target(TargetConfig(images=str(folder), boxes=str(boxes)))
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="no picture"):
        read_target(TargetConfig(images=str(tmp_path / "void")))
    for name in ("a.HEIC", "b.heic", "c.gif"):
        (tmp_path / "void" / name).write_bytes(b"")
        (folder / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"in the folder; 3 pictures of a kind that is not read \(.gif, .heic\)"):
        read_target(TargetConfig(images=str(tmp_path / "void")))
    assert read_target(TargetConfig(images=str(folder))).left_out == {
        "pictures that cannot be read": 1, "pictures of a kind that is not read (.gif, .heic)": 3,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="no target"):
        read_target(TargetConfig())


def test_pictures_alone_are_seen_as_viewers_show_them(tmp_path: Path) -> None:
    for name, orientation in (("lying.jpg", 6), ("over.jpg", 3)):
        exif = Image.Exif()
        exif[274] = orientation
        Image.new("RGB", (60, 40)).save(tmp_path / name, exif=exif)
    target = read_target(TargetConfig(images=str(tmp_path)))
    assert target.turned and target.boxes is not None
    assert target.boxes.tolist() == [[0, 0, 40, 60], [0, 0, 60, 40]]
    boxes = tmp_path / "b.json"
    boxes.write_text(json.dumps({"lying.jpg": [[1, 2, 30, 20]]}))
    assert not read_target(TargetConfig(images=str(tmp_path), boxes=str(boxes))).turned  # these count stored pixels


def test_sizes_that_coco_tells_say_which_pixels_are_meant(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # stored lying on its side
    (tmp_path / "a").mkdir()
    for name in ("a/one.jpg", "two.jpg"):
        Image.new("RGB", (40, 20)).save(tmp_path / name, exif=exif)
    people = [{"image_id": number, "keypoints": person(17).flatten().tolist()} for number in (7, 8)]

    def turned(*sizes: tuple[int, int]) -> bool:
        images = [
            {"id": 7 + i, "file_name": name} | ({"width": sizes[i][0], "height": sizes[i][1]} if sizes[i][0] else {})
            for i, name in enumerate(("a/one.jpg", "two.jpg"))
        ]
        file = coco(tmp_path / "k.json", people, images=images)
        return read_target(TargetConfig(images=str(tmp_path), keypoints=str(file))).turned

    assert turned((20, 40), (20, 40))
    assert turned((0, 0), (20, 40))
    assert not turned((40, 20), (40, 20))
    assert not turned((0, 0), (0, 0))
    assert not turned((640, 480), (30, 30))  # other pictures' sizes, and a square, say nothing
    with pytest.raises(DataError, match=r"as they are stored \(one.jpg\) and as viewers show them \(two.jpg\)"):
        turned((40, 20), (20, 40))


def test_who_cannot_be_lifted_is_left_out_and_counted() -> None:
    good, hidden, dot, broken = person(17), person(17, 1, 0.1), person(17, 2), person(17, 3)
    dot[:, :2] = 5.0
    broken[2, 0] = np.nan
    target = Target("coco17", np.stack([good, hidden, dot, broken]), ("good", "hidden", "dot", "broken"))
    kept = usable(target, 0.2, 7)
    assert kept.names == ("good", "broken")
    assert kept.keypoints[1, 2].tolist() == [0, 0, 0], "a keypoint that is no number counts as not seen"
    assert sum(kept.left_out.values()) == 2
    centre, side = boxes_of(kept.keypoints)
    np.testing.assert_allclose(side[0], np.ptp(good[:, :2], axis=0).max(), rtol=1e-6)
    np.testing.assert_allclose(centre[0], (good[:, :2].min(0) + good[:, :2].max(0)) / 2, rtol=1e-6)


def test_nobody_left_says_why() -> None:
    target = Target("coco17", person(17, confidence=0.0)[None], ("a",))
    with pytest.raises(DataError, match="fewer than 7 joints of arms and legs"):
        usable(target, 0.2, 7)
    with pytest.raises(DataError, match="keypoints of shape"):
        Target("coco17", np.zeros((1, 12, 3), np.float32), ("a",))
