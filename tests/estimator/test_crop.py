"""Crop conventions: the crop's camera sees what turning, zooming and cutting the picture would show."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from posegen.body.cameras import frame_person
from posegen.body.joint_sets import SMPL24
from posegen.errors import ConfigError
from posegen.estimator import build, declared_crop
from posegen.estimator.crop import DECLARED, CropConvention, crop_of, upright_turn
from posegen.estimator.hybrik import Hybrik
from posegen.estimator.spin import Spin

SIZE = 64
UPRIGHT = CropConvention(SIZE, margin=1.25, upright=True)


def people(n=6):
    """Joints of a standing person, turned any way, and cameras whose pictures are their boxes."""
    g = torch.Generator().manual_seed(0)
    joints = torch.randn(n, 24, 3, generator=g) * 0.15
    for side, x in (("left", 0.15), ("right", -0.15)):
        joints[:, SMPL24.index(f"{side}_shoulder")] = torch.tensor([x, 0.5, 0.0])
        joints[:, SMPL24.index(f"{side}_hip")] = torch.tensor([x, 0.0, 0.0])
        joints[:, SMPL24.index(f"{side}_ankle")] = torch.tensor([x, -0.8, 0.0])
    camera = frame_person(
        joints, torch.linspace(-1, 1, n), torch.linspace(-0.4, 0.4, n), torch.linspace(-3, 3, n), size_px=SIZE
    )
    return joints, camera


def trunk(points):
    middle = [
        (points[:, SMPL24.index(f"left_{j}")] + points[:, SMPL24.index(f"right_{j}")]) / 2 for j in ("hip", "shoulder")
    ]
    return middle[1] - middle[0]


def test_a_box_is_left_alone_to_the_bit():
    joints, camera = people()
    assert CropConvention(SIZE).camera(camera, joints, SMPL24) is camera


def test_a_margin_widens_about_the_middle():
    joints, camera = people()
    wide = CropConvention(SIZE, margin=1.25).camera(camera, joints, SMPL24)
    expected = (camera.project(joints) - SIZE / 2) / 1.25 + SIZE / 2
    assert torch.allclose(wide.project(joints), expected, atol=1e-3)
    assert torch.equal(wide.R, camera.R)


def test_upright_crops_have_the_shoulders_above_the_hips_and_hold_the_person():
    joints, camera = people()
    before = trunk(camera.project(joints))
    assert (before[:, 1] > 0).any()  # somebody is head down
    turned = UPRIGHT.camera(camera, joints, SMPL24)
    up = trunk(turned.project(joints))
    assert torch.allclose(up[:, 0], torch.zeros(len(up)), atol=1e-3) and (up[:, 1] < 0).all()
    furthest = (camera.project(joints) - SIZE / 2).abs().amax((1, 2))
    assert torch.allclose((turned.project(joints) - SIZE / 2).abs().amax((1, 2)) * 1.25, furthest, atol=1e-3)


def test_the_camera_is_rigid_and_labels_turn_with_it():
    joints, camera = people()
    turned = UPRIGHT.camera(camera, joints, SMPL24)
    assert torch.allclose(turned.R @ turned.R.mT, torch.eye(3).expand(6, 3, 3), atol=1e-5)
    assert torch.linalg.det(turned.R) == pytest.approx(torch.ones(6))
    before, after = camera.to_camera(joints), turned.to_camera(joints)
    assert torch.allclose(after[..., 2], before[..., 2], atol=1e-5)  # about the line of sight: no depth changes
    pairwise = [(p[:, :, None] - p[:, None]).norm(dim=-1) for p in (before, after)]
    assert torch.allclose(*pairwise, atol=1e-5)


def test_the_picture_is_the_old_one_turned():
    """A pixel of the crop is where turning and zooming the old picture about its middle puts it."""
    joints, camera = people()
    turned = UPRIGHT.camera(camera, joints, SMPL24)
    placed = camera.project(joints) - SIZE / 2
    turn = upright_turn(placed, SMPL24)
    zoom = turned.focal / camera.focal
    points = torch.randn(6, 40, 3, generator=torch.Generator().manual_seed(2)) * 0.5
    expected = zoom[:, None, None] * ((camera.project(points) - SIZE / 2) @ turn.mT) + SIZE / 2
    assert torch.allclose(turned.project(points), expected, atol=1e-2)


def test_a_trunk_seen_along_its_axis_or_unknown_is_not_turned():
    placed = torch.zeros(2, 24, 2)
    placed[1] = float("nan")
    assert torch.equal(upright_turn(placed, SMPL24), torch.eye(2).expand(2, 2, 2))


def test_turn_of_pictures_that_exist():
    joints = torch.zeros(1, 24, 3)
    for side in ("left", "right"):
        joints[:, SMPL24.index(f"{side}_shoulder"), 0] = 1.0  # lying, the head to the right
    joints[:, SMPL24.index("head")] = float("nan")
    turn, side = UPRIGHT.turn_and_side(joints, SMPL24)
    assert torch.allclose(turn[0] @ torch.tensor([1.0, 0.0]), torch.tensor([0.0, -1.0]))
    assert side.item() == pytest.approx(1.25)


def test_gradients_reach_the_pose_through_the_crop():
    joints, camera = people()
    joints.requires_grad_()
    UPRIGHT.camera(camera, joints, SMPL24).project(joints).square().sum().backward()
    assert torch.isfinite(joints.grad).all() and joints.grad.abs().sum() > 0


def test_every_built_in_estimator_is_declared_with_its_size():
    for name in ("hmr_small", "hmr_lite", "blazepose"):
        assert crop_of(build(name)) == DECLARED[name]
    assert (Spin.image_size, Hybrik.image_size) == (DECLARED["spin"].size_px, DECLARED["hybrik"].size_px)
    assert not any(crop.reframes for name, crop in DECLARED.items() if name not in ("blazepose", "hmr_lite"))
    assert declared_crop("callable", {"image_size": 100}).size_px == 100
    assert (DECLARED["blazepose"].margin, DECLARED["blazepose"].upright) == (1.25, True)
    assert replace(DECLARED["hmr_lite"], size_px=256) == DECLARED["blazepose"]  # whose trunk it has


def test_who_tells_nothing_gets_the_box():
    class Silent:
        name, joint_set, differentiable, image_size = "silent", "smpl24", False, 48

    assert crop_of(Silent()) == CropConvention(48)


def test_wrong_conventions_are_told():
    with pytest.raises(ConfigError, match="unknown outside"):
        CropConvention(outside="white")
    with pytest.raises(ConfigError, match="is none"):
        CropConvention(margin=0.0)
    assert UPRIGHT.describe("joints x 1.2") == "joints x 1.2, x 1.25 for the estimator, turned upright"


def test_the_drawn_picture_agrees_with_the_camera():
    """A dot drawn at a shoulder and turned as `turned_upright` turns pictures lies where the crop's camera sees it."""
    from posegen.benchmarks.readers.truth import TruthBatch
    from posegen.benchmarks.readers.turned import turned_upright

    angle = math.radians(130)
    upright = torch.zeros(1, 24, 3)
    for side, x in (("left", 0.2), ("right", -0.2)):
        upright[:, SMPL24.index(f"{side}_shoulder")] = torch.tensor([x, -0.5, 0.0])
        upright[:, SMPL24.index(f"{side}_ankle")] = torch.tensor([x, 0.5, 0.0])
    roll = torch.tensor([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1.0]])
    lying = upright @ roll.mT
    flat = lying[0, :, :2]
    low, high = flat.amin(0), flat.amax(0)
    wide, boxes = 256, 2 * UPRIGHT.margin  # the picture is so many boxes wide
    where = SMPL24.index("left_shoulder")
    u, v = ((flat[where] - (low + high) / 2) / ((high - low).max() * boxes) + 0.5) * wide
    image = torch.zeros(1, 3, wide, wide)
    image[0, :, int(v) - 3 : int(v) + 3, int(u) - 3 : int(u) + 3] = 1
    turned, truth = turned_upright(image, TruthBatch(lying, pose=torch.zeros(1, 24, 3)), UPRIGHT, SMPL24)
    assert turned.shape == (1, 3, SIZE, SIZE)
    assert torch.allclose(truth.joints, upright, atol=1e-6)
    assert truth.pose[0, 0] == pytest.approx(torch.tensor([0.0, 0.0, -angle]), abs=1e-5)
    weight = F.relu(turned[0, 0])
    found = torch.stack([(weight.sum(0) * torch.arange(SIZE)).sum(), (weight.sum(1) * torch.arange(SIZE)).sum()])
    found = found / weight.sum() + 0.5 - SIZE / 2
    assert found[1] < 0 < found[0]  # above, and on the picture's right
    assert found[0] / -found[1] == pytest.approx(0.2 / 0.5, abs=0.1)
