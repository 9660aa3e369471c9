"""What the labels of one body mean for another."""

import numpy as np
import pytest
import torch

from posegen.body.joint_sets import SMPL24
from posegen.body.kinematics import forward_kinematics
from posegen.body.rotations import aa_to_matrix, random_rotation
from posegen.body.skeleton import LONG_BONES, Skeleton, carried_over, rest_turns

GENERATOR_SEED = 4


def skeleton(bend_rad: float = 0.0, shift_m: float = 0.0) -> Skeleton:
    """A stick figure in a T pose; `bend_rad` lowers its arms, `shift_m` moves joints of the trunk."""
    at = dict.fromkeys(SMPL24.joints, (0.0, 0.0, 0.0))
    for side, sign in (("left", 1.0), ("right", -1.0)):
        at |= {
            f"{side}_hip": (sign * 0.08, -0.09, 0.0), f"{side}_knee": (sign * 0.1, -0.48, 0.01),
            f"{side}_ankle": (sign * 0.09, -0.88, -0.02), f"{side}_foot": (sign * 0.1, -0.93, 0.1),
            f"{side}_collar": (sign * 0.08, 0.42, 0.0),
        }  # fmt: skip
        point = np.array([sign * 0.17, 0.44, 0.0])
        along = np.array([sign * np.cos(bend_rad), -np.sin(bend_rad), 0.0])
        for joint, length in (("shoulder", 0.0), ("elbow", 0.26), ("wrist", 0.25), ("hand", 0.09)):
            point = point + length * along
            at[f"{side}_{joint}"] = tuple(point)
    for joint, height in (("spine1", 0.11), ("spine2", 0.25), ("spine3", 0.3), ("neck", 0.52), ("head", 0.6)):
        at[joint] = (0.0, height, shift_m)
    shapes = torch.randn(24, 3, 10, generator=torch.Generator().manual_seed(1)) * 0.01
    return Skeleton(torch.tensor([at[joint] for joint in SMPL24.joints], dtype=torch.float32), shapes)


def directions(body: Skeleton, rotations: torch.Tensor) -> torch.Tensor:
    """The long bones' directions (B,8,3) in a pose."""
    _, joints = forward_kinematics(rotations, body.template[None].expand(len(rotations), 24, 3))
    start, end = zip(*LONG_BONES, strict=True)
    return torch.nn.functional.normalize(joints[:, end] - joints[:, start], dim=-1)


def test_carried_over_rotations_point_all_limbs_alike():
    source, target = skeleton(), skeleton(bend_rad=0.4, shift_m=0.03)
    rotations = random_rotation((5, 24), torch.Generator().manual_seed(GENERATOR_SEED))
    turns = rest_turns(source, target)
    assert turns is not None
    moved = carried_over(rotations, turns)
    assert torch.allclose(directions(target, moved), directions(source, rotations), atol=1e-5)
    assert not torch.allclose(directions(target, rotations), directions(source, rotations), atol=0.1)
    assert torch.allclose(moved[:, 0], rotations[:, 0], atol=1e-6)  # the trunk keeps its orientation
    assert torch.allclose(moved @ moved.mT, torch.eye(3).expand(5, 24, 3, 3), atol=1e-5)


def test_a_turn_is_the_angle_between_the_rest_bones():
    turns = rest_turns(skeleton(), skeleton(bend_rad=0.4))
    # the target's arm hangs 0.4 rad lower: it is lifted about the forward axis before the source's rotation acts
    lifted = aa_to_matrix(torch.tensor([[0.0, 0.0, 0.4]]))[0]
    assert torch.allclose(turns[SMPL24.index("left_shoulder")], lifted, atol=1e-6)
    assert torch.allclose(turns[SMPL24.index("right_elbow")], lifted.T, atol=1e-6)
    assert torch.allclose(turns[SMPL24.index("left_hip")], torch.eye(3), atol=1e-6)


def test_rotations_of_another_rest_pose_say_nothing():
    assert rest_turns(skeleton(), skeleton(bend_rad=0.9)) is None  # an A pose
    lying = skeleton()
    lying.template.copy_(lying.template[:, [0, 2, 1]])  # another axis up
    assert rest_turns(skeleton(), lying) is None


@pytest.mark.parametrize("change", ["template", "shapedirs"])
def test_a_body_is_the_same_only_with_the_same_joints_and_shapes(change):
    body, other = skeleton(), skeleton()
    other.template += 0.3  # the origin does not matter
    assert body.same_as(other)
    getattr(other, change)[5, 1] += 0.01
    assert not body.same_as(other)
