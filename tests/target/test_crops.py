"""Crops of the target: pixels and keypoints agree, memory is bounded, people are held out by picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from posegen.body.joint_sets import LIMBS12
from posegen.errors import DataError
from posegen.estimator.crop import CropConvention
from posegen.target.crops import TargetCrops
from posegen.target.people import BLOCK_FRAMES, held_out, people_of, read_people, write_people
from posegen.target.record import Target

PLAIN = CropConvention(48, stretch=False)
UPRIGHT = CropConvention(48, margin=1.25, upright=True, outside="edge", stretch=False)


def lying(side: float, centre: tuple[float, float]) -> np.ndarray:
    """Keypoints (12,3) of a person who lies with the head to the right."""
    points = np.zeros((12, 3), np.float32)
    for number, joint in enumerate(LIMBS12.joints):
        along = {"shoulder": 0.5, "elbow": 0.3, "wrist": 0.2, "hip": 0.0, "knee": -0.25, "ankle": -0.5}
        across = 0.1 if joint.startswith("left") else -0.1
        points[number] = (along[joint.split("_")[1]] * side, across * side, 1.0)
    points[:, :2] += np.float32(centre)
    return points


def spot(path: Path, at: tuple[float, float], size: tuple[int, int] = (300, 200)) -> str:
    """A dark picture with a bright square of 9 px around a point."""
    pixels = np.full((size[1], size[0], 3), 20, np.uint8)
    u, v = round(at[0]), round(at[1])
    pixels[v - 4 : v + 5, u - 4 : u + 5] = 250
    Image.fromarray(pixels).save(path)
    return str(path)


def brightest(image: torch.Tensor) -> torch.Tensor:
    """The middle of what is bright, in crop units."""
    light = (image.float().mean(0) > 120).float()
    grid = (torch.arange(image.shape[-1]) + 0.5) / image.shape[-1] * 2 - 1
    return torch.stack([(light.sum(0) * grid).sum(), (light.sum(1) * grid).sum()]) / light.sum()


@pytest.mark.parametrize("crop", [PLAIN, UPRIGHT], ids=["plain", "upright"])
@pytest.mark.parametrize("joint", ["left_shoulder", "right_ankle", "left_wrist"])
def test_a_keypoint_lies_where_its_pixel_lies(tmp_path: Path, crop: CropConvention, joint: str) -> None:
    points = lying(100, (140, 90))
    number = LIMBS12.index(joint)
    picture = spot(tmp_path / "a.png", (points[number, 0] - 0.5, points[number, 1] - 0.5))
    people = people_of(Target("limbs12", points[None], ("a.png",), (picture,)), 0.0)
    rows = TargetCrops(people, crop).rows([0])
    assert (brightest(rows.images[0]) - rows.keypoints[0, number, :2]).abs().max() < 0.06
    if crop.upright:
        shoulders = rows.keypoints[0, [LIMBS12.index("left_shoulder"), LIMBS12.index("right_shoulder")], 1]
        ankles = rows.keypoints[0, [LIMBS12.index("left_ankle"), LIMBS12.index("right_ankle")], 1]
        assert shoulders.max() < ankles.min() - 1.0, "the head is up"


def test_a_given_box_is_the_crop(tmp_path: Path) -> None:
    points = lying(60, (100, 100))[None]
    picture = spot(tmp_path / "a.png", (120, 80))
    target = Target("limbs12", points, ("a.png",), (picture,), np.array([[60.0, 60.0, 100.0, 80.0]]))
    people = people_of(target, 0.0)
    assert people.centre.tolist() == [[110.0, 100.0]] and people.side.tolist() == [100.0]
    rows = TargetCrops(people, PLAIN).rows([0])
    assert (brightest(rows.images[0]) - torch.tensor([0.2, -0.4])).abs().max() < 0.05
    shoulder = rows.keypoints[0, LIMBS12.index("left_shoulder")]
    torch.testing.assert_close(shoulder, torch.tensor([(130 - 110) / 50, (106 - 100) / 50, 1.0]))


def test_what_lies_outside_of_the_crop_or_was_not_seen_has_no_confidence(tmp_path: Path) -> None:
    points = lying(60, (100, 100))
    points[0, 0], points[1, 2], points[2, :2] = 500.0, 0.0, np.nan
    target = Target(
        "limbs12", points[None], ("a",), (spot(tmp_path / "a.png", (9, 9)),), np.array([[70.0, 70, 60, 60]])
    )
    keypoints = TargetCrops(people_of(target, 0.0), PLAIN).rows([0]).keypoints[0]
    assert (keypoints[:3] == 0).all() and (keypoints[3:, 2] > 0).any() and torch.isfinite(keypoints).all()


def test_what_is_seen_in_a_turned_crop_is_turned_back(tmp_path: Path) -> None:
    points = lying(100, (140, 90))
    people = people_of(Target("limbs12", points[None], ("a.png",), (spot(tmp_path / "a.png", (9, 9)),)), 0.0)
    crops = TargetCrops(people, UPRIGHT)
    upright = torch.tensor([[[0.0, -0.5, 0.1], [0.0, 0.5, 0.0]]])  # head and feet as an estimator sees them
    back = crops.turned_back(upright, torch.tensor([0]))
    assert torch.allclose(crops.turned(back, torch.tensor([0])), upright, atol=1e-6)
    torch.testing.assert_close(back, torch.tensor([[[0.5, 0.0, 0.1], [-0.5, 0.0, 0.0]]]), atol=1e-4, rtol=0)


def test_memory_is_bounded_and_broken_pictures_teach_nothing(tmp_path: Path, monkeypatch) -> None:
    pictures = tuple(spot(tmp_path / f"{i}.png", (50 + i, 60)) for i in range(20))
    Path(pictures[7]).write_bytes(b"no picture")
    points = np.stack([lying(80, (100, 100))] * 20)
    target = Target("limbs12", points, tuple(f"{i}.png" for i in range(20)), pictures)
    read: list[str] = []
    from posegen.target import crops as module

    opened = module.open_picture
    monkeypatch.setattr(module, "open_picture", lambda path, turned: (read.append(path), opened(path, turned))[1])
    crops = TargetCrops(people_of(target, 0.0), PLAIN, keep_mb=5 * 3 * 48**2 / 2**20)
    first = crops.rows(range(20))
    again = crops.rows(range(20))
    assert len(read) == 20 + 15 and len(crops._kept) == 5
    assert torch.equal(first.images, again.images)
    assert crops.unreadable == {7}
    assert (again.images[7] == 0).all() and (again.keypoints[7] == 0).all() and (again.keypoints[6, :, 2] > 0).all()
    assert torch.equal(crops.rows([3, 3, 1]).images, first.images[[3, 3, 1]])


def test_pictures_are_held_out_whole_and_recordings_in_blocks() -> None:
    points = np.stack([lying(80, (100, 100))] * 400)
    crowd = Target("limbs12", points, tuple(f"p{i // 4}.jpg#{i % 4}" for i in range(400)))
    held = held_out(crowd, 0.2)
    assert held.sum() == 80 and (held.reshape(100, 4).all(1) | ~held.reshape(100, 4).any(1)).all()
    turned = crowd.pick(np.arange(400)[::-1])
    assert (held_out(turned, 0.2) == held[::-1]).all()
    film = Target("limbs12", points, tuple(map(str, range(400))), sequences=("walk",) * 400, frames=np.arange(400))
    blocks = held_out(film, 0.25).reshape(-1, BLOCK_FRAMES)
    assert blocks.all(1).sum() == 2 and (blocks.all(1) | ~blocks.any(1)).all()
    assert not held_out(crowd, 0.0).any() and not held_out(crowd.pick(np.arange(3)), 0.5).any()


def test_people_come_back_from_their_file(tmp_path: Path) -> None:
    pictures = tuple(str(tmp_path / name) for name in "abcdefgh")
    target = Target("limbs12", np.stack([lying(80, (100, 100))] * 8), tuple("abcdefgh"), pictures)
    people = people_of(target, 0.25)
    back = read_people(write_people(people, tmp_path / "people.npz"))
    assert back.target.names == target.names and back.target.pictures == target.pictures
    assert (back.held == people.held).all() and back.held.sum() == 2
    assert len(back.shown) == 6 and len(back.kept_back) == 2
    np.testing.assert_allclose(back.side, people.side)
    np.savez(tmp_path / "people.npz", keypoints=target.keypoints)
    with pytest.raises(DataError, match="joint_set"):
        read_people(tmp_path / "people.npz")
    with pytest.raises(DataError, match="keypoints alone"):
        TargetCrops(people_of(Target("limbs12", target.keypoints, target.names), 0.0), PLAIN)
