"""BlazePose's landmarks as a detector: geometry of its crops, and a person found in pictures of the embedded world."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from posegen.body.joint_sets import BLAZEPOSE33, LIMBS12, SMPL24
from posegen.estimator.crop import CropConvention
from posegen.target.config import TargetConfig
from posegen.target.crops import TargetCrops
from posegen.target.detect import Detector, Look, around, in_picture, region_of, sampled
from posegen.target.people import people_of, read_people, write_people
from posegen.target.readers import read_target
from posegen.target.run_lift import detected


def test_a_crop_and_its_points_agree() -> None:
    picture = torch.zeros(3, 60, 80)
    picture[:, 30:34, 50:54] = 1.0  # a square about (52, 32)
    look = Look(torch.tensor([[45.0, 30.0]]), torch.tensor([40.0]), torch.tensor([0.5]))
    crop = sampled(picture, look, 80)
    v, u = torch.meshgrid(torch.arange(80) + 0.5, torch.arange(80) + 0.5, indexing="ij")
    mass = crop[0, 0] / crop[0, 0].sum()
    seen = torch.stack([(mass * u).sum(), (mass * v).sum()])[None, None] / 80 - 0.5
    torch.testing.assert_close(in_picture(seen, look), torch.tensor([[[52.0, 32.0]]]), atol=0.1, rtol=0)


def test_large_pictures_are_kept_small_and_seen_alike() -> None:
    small = np.zeros((500, 600, 3), np.uint8)
    small[220:260, 300:330] = 255
    large = small.repeat(8, 0).repeat(8, 1)
    look = Look(torch.tensor([[290.0, 240.0]]), torch.tensor([200.0]), torch.tensor([0.3]))
    eight = Look(look.centre * 8, look.side * 8, look.angle)
    one = region_of("small", look, 0, lambda _: small)
    other = region_of("large", eight, 0, lambda _: large)
    assert other.pixels.numel() < large.size / 20
    assert (one.crop(look, 0, 64) - other.crop(eight, 0, 64)).abs().mean() < 0.02
    assert region_of("away", Look(torch.tensor([[-900.0, 0.0]]), torch.ones(1), torch.zeros(1)), 0,
                     lambda _: small).pixels.sum() == 0  # fmt: skip


def test_the_second_look_is_upright() -> None:
    points = torch.full((1, len(BLAZEPOSE33), 2), 50.0)
    for side, shift in (("left", 4.0), ("right", -4.0)):
        points[0, BLAZEPOSE33.index(f"{side}_shoulder")] = torch.tensor([70.0, 50.0 + shift])  # head to the right
        points[0, BLAZEPOSE33.index(f"{side}_hip")] = torch.tensor([40.0, 50.0 + shift])
    look = around(points)
    assert float(look.angle) == math.radians(90) or abs(float(look.angle) - math.pi / 2) < 1e-5
    above = in_picture(torch.tensor([[[0.0, -0.5]]]), look)
    assert above[0, 0, 0] > look.centre[0, 0] + 10, "up in the crop is where the shoulders are"


def test_a_photo_that_is_stored_on_its_side_is_seen_as_it_is_shown(assets: Path, tmp_path: Path) -> None:
    from posegen.benchmarks.embedded.stand_ins import build_embedded

    made = build_embedded("source-like", images=6)
    pixels = (made.batch(slice(0, 1)).images[0] * 255).byte().permute(1, 2, 0).numpy()
    folders = tmp_path / "upright", tmp_path / "lying"
    for folder in folders:
        folder.mkdir()
    exif = Image.Exif()
    exif[274] = 6  # viewers turn it clockwise
    Image.fromarray(pixels).save(folders[0] / "a.png")
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(folders[1] / "a.png", exif=exif)
    upright, lying = (
        detected(read_target(TargetConfig(images=str(folder))), tmp_path / folder.name, 16, lambda *_: None)
        for folder in folders
    )
    np.testing.assert_array_equal(upright.keypoints, lying.keypoints)
    people = people_of(lying, 0.0)
    crop = CropConvention(48, stretch=False)
    crops = [TargetCrops(people_of(target, 0.0), crop).rows([0]).images.float() for target in (upright, lying)]
    assert torch.equal(*crops) and crops[0].std() > 10
    back = read_people(write_people(people, tmp_path / "people.npz")).target
    assert back.turned and back.pictures == lying.pictures
    stored = replace(people, target=replace(lying, turned=False))
    assert not read_people(write_people(stored, tmp_path / "stored.npz")).target.turned


def test_people_are_found_and_nothing_is_not(assets: Path) -> None:
    from posegen.benchmarks.embedded.stand_ins import build_embedded

    made = build_embedded("source-like", images=6)
    batch, camera = made.batch(slice(0, 6)), made.camera(slice(0, 6))
    true = batch.joints[..., :2] / batch.joints[..., 2:] * camera.focal[:, None, None] + camera.centre[:, None]
    pictures = {str(i): image for i, image in enumerate((batch.images * 255).byte().permute(0, 2, 3, 1).numpy())}
    pictures["noise"] = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    found = Detector()(list(pictures), np.array([[0, 0, 96, 96]] * 7, float), opened=lambda name: pictures[name])
    assert found[6, :, 2].max() == 0.0
    seen = found[:6, :, 2].max(1) > 0.5
    assert seen.sum() >= 5
    ours, theirs = SMPL24.common(BLAZEPOSE33)
    limbs = [i for i, joint in enumerate(ours) if SMPL24.joints[joint] in LIMBS12.joints]
    gap = np.linalg.norm(found[:6][seen][:, theirs, :2] - true.numpy()[seen][:, ours], axis=-1)[:, limbs]
    assert np.median(gap) < 5.0
