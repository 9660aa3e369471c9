"""Facts of poses and pictures against people that were put together by hand."""

from __future__ import annotations

import numpy as np
import pytest
from people import REST, arms_up, at, bent_forward, crouched, lying, sample_of_people, standing

from posegen.atlas.facts import KNOWN, FactTable
from posegen.atlas.picture_facts import hidden_joints, light_facts
from posegen.atlas.pose_facts import pose_facts


def of(joints: np.ndarray) -> dict[str, float]:
    return {name: float(values[0]) for name, values in pose_facts(joints[None]).items()}


def test_a_standing_person_is_upright_with_straight_limbs():
    facts = of(standing())
    for name in ("trunk_tilt_deg", "lean_forward_deg", "twist_deg", "knee_bend_most_deg", "foot_lift"):
        assert facts[name] == pytest.approx(0, abs=1e-6)
    assert facts["pelvis_height"] == pytest.approx((0.95 - 0.03) / 0.8)
    assert facts["arm_height_most"] < -0.95
    assert facts["wrists_apart"] > 1


def test_arms_to_the_sides_and_up():
    sides = of(REST)
    assert sides["left_arm_outwards"] == pytest.approx(1)
    assert sides["right_arm_outwards"] == pytest.approx(1)
    assert sides["left_arm_height"] == pytest.approx(0, abs=1e-9)
    raised = of(arms_up())
    assert raised["left_arm_height"] == pytest.approx(1)
    assert raised["right_arm_height"] == pytest.approx(1)


def test_crossed_wrists_are_apart_the_other_way():
    joints = standing()
    joints[at("left_wrist")], joints[at("right_wrist")] = [-0.2, 1.2, 0.2], [0.2, 1.2, 0.2]
    assert of(joints)["wrists_apart"] == pytest.approx(-0.4 / 0.36)


def test_bending_forward_leans_the_trunk_and_bends_the_hips_alike():
    facts = of(bent_forward(60))
    assert facts["trunk_tilt_deg"] == pytest.approx(60, abs=0.1)
    assert facts["lean_forward_deg"] == pytest.approx(60, abs=0.1)
    assert facts["left_hip_bend_deg"] == pytest.approx(60, abs=0.1)
    assert of(bent_forward(-30))["lean_forward_deg"] == pytest.approx(-30, abs=0.1)


def test_crouching_lowers_the_pelvis_and_bends_hips_and_knees():
    facts = of(crouched())
    assert facts["left_knee_bend_deg"] == pytest.approx(90)
    assert facts["right_hip_bend_deg"] == pytest.approx(90)
    assert facts["pelvis_height"] == pytest.approx((0.05 + 0.47) / 0.8)


def test_a_lying_person_is_tilted_and_low():
    facts = of(lying())
    assert facts["trunk_tilt_deg"] == pytest.approx(90)
    assert facts["pelvis_height"] < 0.3


def test_facts_do_not_depend_on_size_place_or_heading():
    turn = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    moved = 0.6 * (crouched() @ turn.T) + [5, 2, -3]
    for name, value in of(crouched()).items():
        assert of(moved)[name] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize(("azimuth", "elevation"), [(0, 0), (90, 20), (-120, -15), (180, 50)])
def test_views_of_an_upright_person_are_the_cameras(azimuth: float, elevation: float):
    facts = sample_of_people([standing()], [azimuth], [elevation]).facts
    distance = 3.5
    assert float(np.cos(np.radians(facts["azimuth_deg"][0] - azimuth))) > np.cos(np.radians(3))
    # The pelvis is a hand above the middle of all joints, which the camera looks at: a few degrees of parallax.
    assert facts["elevation_deg"][0] == pytest.approx(elevation, abs=5)
    assert facts["distance_m"][0] == pytest.approx(distance, abs=0.2)
    assert facts["roll_deg"][0] == pytest.approx(0, abs=1e-3)


def test_a_lying_person_seen_from_above_is_seen_from_the_front():
    facts = sample_of_people([lying()], [0.0], [80.0]).facts
    assert facts["elevation_deg"][0] > 70
    assert facts["from_front_deg"][0] < 25


def test_an_arm_behind_the_back_is_hidden_from_the_front_and_seen_from_behind():
    joints = standing()
    for name, place in (("elbow", [0.2, 1.15, -0.2]), ("wrist", [0.0, 1.15, -0.25]), ("hand", [-0.05, 1.15, -0.25])):
        joints[at(f"left_{name}")] = place
    front = np.stack([joints[:, 0], -joints[:, 1] + 1.0, 3.0 - joints[:, 2]], -1)  # a camera in front, level
    back = np.stack([-joints[:, 0], -joints[:, 1] + 1.0, 3.0 + joints[:, 2]], -1)
    hidden = hidden_joints(np.stack([front, back]))
    wrist, ankle = at("left_wrist"), at("left_ankle")
    assert hidden[0, wrist]
    assert not hidden[1, wrist]
    assert not hidden[:, ankle].any()


def test_light_is_measured_on_the_person_and_around_it():
    image = np.zeros((1, 3, 40, 40), np.uint8)
    image[:, :, 10:30, 15:25] = 255  # a white person before black
    points = np.tile(np.array([[20.0, 20.0]]), (24, 1))[None]
    eye = np.eye(3)[None]
    behind = light_facts(image, points, np.array([[0, 0, 1.0, 0.4, 0.6]]), eye)
    assert behind["person_brightness"][0] == pytest.approx(1, abs=1e-3)
    assert behind["contrast"][0] == pytest.approx(1, abs=1e-3)
    assert behind["brightness"][0] == pytest.approx(200 / 1600, abs=1e-3)
    assert behind["light_behind_deg"][0] == pytest.approx(180)
    assert behind["ambient"][0] == pytest.approx(0.4)
    before = light_facts(image, points, np.array([[0, 0, -1.0, 0.4, 0.6]]), eye)
    assert before["light_behind_deg"][0] == pytest.approx(0)


def test_every_number_has_its_words_or_is_one_side_of_one_that_has():
    facts = sample_of_people([standing()], [0.0], [0.0]).facts
    for name in set(facts.numbers) - set(KNOWN):
        assert name.startswith(("left_", "right_", "wrist_gap")), name
    assert set(KNOWN) <= set(facts.numbers)


def test_tables_are_joined_and_cut():
    one = sample_of_people([standing(), crouched()], [0.0, 0.0], [0.0, 0.0]).facts
    two = sample_of_people([lying()], [0.0], [0.0]).facts
    both = FactTable.joined([one, two])
    assert len(both) == 3
    assert both.take(np.array([2]))["pelvis_height"][0] == two["pelvis_height"][0]
