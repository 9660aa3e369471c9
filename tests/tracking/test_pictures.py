"""Overlays are checked pixel by pixel at the places where joints must lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from posegen.body.cameras import look_at_camera
from posegen.body.joint_sets import SMPL24
from posegen.errors import DataError
from posegen.tracking.report.gallery import Gallery
from posegen.tracking.report.pictures import (
    PREDICTION,
    TRUTH,
    Skeleton,
    Tile,
    beside,
    contact_sheet,
    encode,
    lighter,
    overlay,
    project,
    project_centred,
)


def grid_joints() -> np.ndarray:
    """24 joints far enough apart that no dot covers another."""
    return np.stack([12 + 18.0 * (np.arange(24) % 5), 12 + 18.0 * (np.arange(24) // 5)], 1)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_each_joint_has_its_colour_at_its_pixel(scale: int) -> None:
    joints = grid_joints()
    picture = overlay(np.full((96, 96, 3), 128, np.uint8), [Skeleton(joints, PREDICTION)], scale)
    assert picture.shape == (96 * scale, 96 * scale, 3)
    for name, (u, v) in zip(SMPL24.joints, joints, strict=True):
        expected = lighter(PREDICTION) if name.startswith("left_") else PREDICTION
        assert tuple(picture[int(v * scale), int(u * scale)]) == expected


def test_sides_differ_and_stay_of_their_skeletons_colour() -> None:
    """Who takes a back for a front swaps the sides: seen in the picture."""
    joints = grid_joints()
    mirrored = joints[[SMPL24.index(other_side(name)) for name in SMPL24.joints]]
    grey = np.full((96, 96, 3), 128, np.uint8)
    assert not np.array_equal(overlay(grey, [Skeleton(joints, TRUTH)]), overlay(grey, [Skeleton(mirrored, TRUTH)]))
    for colour in (TRUTH, PREDICTION):
        assert all(0 <= value - own < 256 for value, own in zip(lighter(colour), colour, strict=True))
    assert lighter(TRUTH)[2] - lighter(TRUTH)[0] > 80 < lighter(PREDICTION)[0] - lighter(PREDICTION)[2]


def other_side(name: str) -> str:
    side, _, rest = name.partition("_")
    return {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, name)


def test_the_middle_of_a_bone_is_drawn_and_where_there_is_none_nothing_is() -> None:
    joints = np.full((24, 2), np.nan)
    hip, knee = SMPL24.index("right_hip"), SMPL24.index("right_knee")
    joints[hip], joints[knee] = (20, 20), (60, 60)
    joints[SMPL24.index("head")] = (80, 20)  # alone: its neighbours are not seen
    picture = overlay(np.full((96, 96, 3), 128, np.uint8), [Skeleton(joints, TRUTH)], scale=3)
    assert tuple(picture[120, 120]) == TRUTH
    assert tuple(picture[60, 240]) == TRUTH
    assert (picture[250:, :] == 128).all()
    assert (picture[30:90, 130:200] == 128).all()


def test_the_later_skeleton_lies_on_top() -> None:
    joints = grid_joints()
    picture = overlay(np.zeros((96, 96, 3), np.uint8), [Skeleton(joints, TRUTH), Skeleton(joints, PREDICTION)])
    assert tuple(picture[36, 36]) == PREDICTION
    assert not (picture == np.array(TRUTH)).all(-1).any()


def test_joints_far_outside_or_missing_do_not_disturb() -> None:
    joints = grid_joints()
    joints[0], joints[1] = (1e9, -1e9), (np.inf, 3)
    picture = overlay(np.zeros((96, 96, 3), np.uint8), [Skeleton(joints, TRUTH)])
    assert tuple(picture[int(joints[23, 1] * 3), int(joints[23, 0] * 3)]) == TRUTH


def test_a_skeleton_of_another_joint_set_is_refused() -> None:
    with pytest.raises(ValueError, match="smpl24 has 24 joints"):
        overlay(np.zeros((8, 8, 3), np.uint8), [Skeleton(np.zeros((17, 2)), TRUTH)])


def test_projection_agrees_with_the_camera() -> None:
    camera = look_at_camera(torch.tensor([0.7]), torch.tensor([0.3]), torch.tensor([3.0]))
    points = torch.randn(1, 24, 3, generator=torch.Generator().manual_seed(0)) * 0.4
    cam = camera.to_camera(points)[0].numpy()
    focal, centre = float(camera.focal[0]), camera.centre[0].numpy()
    np.testing.assert_allclose(project(cam, focal, centre), camera.project(points)[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(project_centred(cam - cam[:1], cam[0], focal, centre), project(cam, focal, centre))
    cam[3, 2] = -1.0
    assert np.isnan(project(cam, focal, centre)[3]).all()


def test_a_sheet_places_its_tiles_in_rows() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)]
    tiles = [Tile(np.full((40, 60, 3), colour, np.uint8), f"tile {i}\nsecond line") for i, colour in enumerate(colours)]
    sheet = contact_sheet(tiles, columns=3, gap_px=10)
    assert sheet.shape[1] == 10 + 3 * 70
    assert [tuple(sheet[20, 30 + 70 * i]) for i in range(3)] == colours[:3]
    second_row = 10 + 40 + 10 + 2 * 14  # gap, tile, gap, two lines of caption
    assert tuple(sheet[second_row + 20, 30]) == colours[3]
    caption = sheet[50:75, 10:70]
    assert caption.min() < 150  # text was written below the first tile
    assert beside([tiles[0].image, tiles[1].image], gap_px=4).shape == (40, 124, 3)


def test_captions_stay_below_their_own_tiles() -> None:
    tiles = [Tile(np.zeros((40, 120, 3), np.uint8), "agora-like   before 431 mm → 230 mm after it was tuned")] * 2
    sheet = contact_sheet(tiles, columns=2, gap_px=10)
    assert sheet[50:, 132:140].min() == 255  # nothing is written into the gap between them
    assert sheet[65:80, 10:130].min() < 150  # the second line


def test_encoded_bytes_decode_to_the_picture() -> None:
    import io

    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(encode(picture, "png")))) == picture).all()
    assert Image.open(io.BytesIO(encode(picture, "jpeg"))).size == (16, 16)


def make_gallery(before: list[float], after: list[float]) -> Gallery:
    count = len(before)
    joints = np.repeat(grid_joints()[None], count, 0)
    names = np.array([f"image-{i}" for i in range(count)])
    images = np.zeros((count, 96, 96, 3), np.uint8)
    return Gallery(images, joints, joints + 3, joints + 1, np.array(before), np.array(after), names, names)


def test_examples_are_fixed_when_a_fifth_of_the_error_is_gone() -> None:
    gallery = make_gallery([100, 100, 200, 50], [80, 81, 100, 60])
    assert gallery.fixed.tolist() == [True, False, True, False]
    assert gallery.most_fixed() == [2, 0]
    assert gallery.not_fixed() == [1, 3]


def test_a_gallery_is_read_as_it_was_written(tmp_path: Path) -> None:
    gallery = make_gallery([100, 90], [50, 95])
    path = tmp_path / "evaluation" / "gallery.npz"
    gallery.save(path)
    again = Gallery.load(path)
    np.testing.assert_array_equal(again.joints2d_before, gallery.joints2d_before)
    assert again.ids.tolist() == ["image-0", "image-1"]
    assert [p.name for p in path.parent.iterdir()] == ["gallery.npz"]
    pixel = tuple(again.picture(0, "after", scale=3)[(13 * 3), (13 * 3)])
    assert pixel == PREDICTION


def test_a_damaged_gallery_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gallery.npz"
    make_gallery([1.0], [1.0]).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="damaged"):
        Gallery.load(path)
    np.savez(path, images=np.zeros((1, 2, 2, 3), np.uint8))
    with pytest.raises(DataError, match="lacks joints2d_truth"):
        Gallery.load(path)
    with pytest.raises(DataError, match="differ in length"):
        make_gallery([1.0, 2.0], [1.0])


def test_a_gallery_keeps_joints_that_an_estimator_lacks(tmp_path):
    joints = np.zeros((2, 24, 2))
    lacking = joints.copy()
    lacking[:, 5] = np.nan
    names = np.array(["a", "b"])
    images, errors = np.zeros((2, 8, 8, 3), np.uint8), np.array([1.0, 2.0])
    Gallery(images, joints, lacking, lacking, errors, errors, names, names).save(tmp_path / "gallery.npz")
    read = Gallery.load(tmp_path / "gallery.npz")
    assert np.isnan(read.joints2d_before[:, 5]).all() and np.isfinite(read.joints2d_before[:, :5]).all()
    Gallery(images, lacking, joints, joints, errors, errors, names, names).save(tmp_path / "gallery.npz")
    with pytest.raises(DataError, match="joints2d_truth holds values that are not finite"):
        Gallery.load(tmp_path / "gallery.npz")
