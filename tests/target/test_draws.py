"""Draws around the target: shares, views, noise, and what the generator makes of them."""

import math

import pytest
import torch

from posegen.body.cameras import viewing_angles
from posegen.body.model import load_body
from posegen.body.rotations import aa_to_matrix
from posegen.config import compose
from posegen.generator.build import build_drawer, build_generator
from posegen.generator.draws import Drawer
from posegen.scenes.world import real_poses
from posegen.target.anchors import Anchors
from posegen.target.config import TargetConfig
from posegen.target.draws import TargetDraws

pytestmark = pytest.mark.usefixtures("assets")
SETTINGS = TargetConfig(root_noise_deg=0.0)


def some_anchors():
    """Two people: one seen from 40 degrees above at 3 m, one from 10 below at 6 m."""
    pose = torch.zeros(2, 24, 3)
    pose[:, 0, 0] = math.pi  # upright in a level camera's frame
    pose[1, 16, 2] = 0.7
    return Anchors(
        pose, torch.tensor([0.3, 0.7]), torch.tensor([4, 9]), torch.deg2rad(torch.tensor([40.0, -10.0])),
        torch.deg2rad(torch.tensor([5.0, 0.0])), torch.tensor([3.0, 6.0]), torch.tensor([0.05, 0.05]),
        torch.tensor([0.1, 0.1]),
    )  # fmt: skip


@pytest.fixture(scope="module")
def made():
    config = compose([])
    poses, body = real_poses(config), load_body(resolution="low")
    torch.manual_seed(0)
    generator = build_generator(config, poses, body)
    plain = build_drawer(config, generator, poses, subjects=3)
    drawer = Drawer(plain.noise, poses, plain.betas, 3, plain.mirror, TargetDraws(some_anchors(), SETTINGS), 0.6, 0.5)
    return generator, plain, drawer, body


def test_without_a_target_nothing_changes(made):
    _, plain, drawer, _ = made
    a, b = plain.draw(8, torch.Generator().manual_seed(1)), drawer.draw(8, torch.Generator().manual_seed(1), 0.0)
    assert a.view is None and a.person is None
    assert torch.equal(a.anchor, b.anchor) and torch.equal(a.joints, b.joints) and (b.person == -1).all()
    assert not b.view.given.any()


def test_a_share_is_drawn_around_the_targets_people(made):
    _, plain, drawer, _ = made
    draw = drawer.draw(1000, torch.Generator().manual_seed(2))
    taken = draw.person >= 0
    assert taken.float().mean().item() == pytest.approx(0.6, abs=0.05)
    assert (draw.person[taken] == 9).float().mean().item() == pytest.approx(0.7, abs=0.05)
    assert set(draw.person.tolist()) == {-1, 4, 9}
    other = plain.draw(1000, torch.Generator().manual_seed(2))
    assert torch.equal(draw.anchor[~taken], other.anchor[~taken])
    torch.testing.assert_close(draw.joints[taken], 0.5 * other.joints[taken])
    rows = drawer.draw_rows(torch.tensor([3, 7, 11]), seed=5)
    alone = drawer.draw_rows(torch.tensor([7]), seed=5)
    assert torch.equal(rows.anchor[1:2], alone.anchor) and torch.equal(rows.person[1:2], alone.person)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_cameras_stay_around_the_targets_own(made, shift):
    generator, _, drawer, body = made
    if shift:
        import copy

        generator = copy.deepcopy(generator)
        with torch.no_grad():
            generator.look.weight.normal_(std=3.0, generator=torch.Generator().manual_seed(1))
    draw = drawer.draw(400, torch.Generator().manual_seed(3), 1.0)
    scene = generator(draw, shift=shift).scene
    azimuth, elevation = (torch.rad2deg(a) for a in viewing_angles(scene.camera.R))
    assert azimuth.abs().max() <= 25.01
    joints = body.joints(aa_to_matrix(scene.pose), scene.betas)
    distance = scene.camera.to_camera(joints)[..., 2].mean(1)
    for person, middle, metres in ((4, 40.0, 3.0), (9, -10.0, 6.0)):
        mine = draw.person == person
        half = math.sqrt(3) * math.degrees(math.hypot(0.05, math.radians(8)))
        assert (elevation[mine] - middle).abs().max() <= half + 0.01
        if not shift:
            assert (elevation[mine] - middle).std().item() == pytest.approx(half / math.sqrt(3), rel=0.15)
            assert distance[mine].log().mean().item() == pytest.approx(math.log(metres), abs=0.06)
    inside = scene.camera.project(joints)
    assert inside.min() > -20 and inside.max() < 116, "people are in their pictures"


def test_the_person_stands_as_it_was_lifted():
    still = TargetDraws(some_anchors(), SETTINGS, mirror=False).draw(50, torch.Generator().manual_seed(0))
    # Lifted upright in the frame of a camera 10 degrees below: in the world it leans by those 10 degrees.
    up = aa_to_matrix(still.pose[:, 0])[:, 1, 1]
    lean = torch.rad2deg(torch.acos(up.clamp(-1, 1)))
    torch.testing.assert_close(
        lean[still.person == 9], torch.full(((still.person == 9).sum(),), 10.0), atol=0.1, rtol=0
    )
    mirrored = TargetDraws(some_anchors(), SETTINGS).draw(200, torch.Generator().manual_seed(0))
    rolls = {round(float(roll), 3) for roll in mirrored.view.roll_deg[mirrored.person == 4].mean(1)}
    assert rolls == {-5.0, 5.0}
