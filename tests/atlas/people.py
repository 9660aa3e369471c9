"""People in poses whose facts are known, seen by cameras whose place is known, with errors that are made up."""

from __future__ import annotations

import numpy as np
import torch

from posegen.atlas.facts import FactTable
from posegen.atlas.measured import Measured
from posegen.atlas.picture_facts import light_facts, view_facts
from posegen.atlas.pose_facts import pose_facts
from posegen.atlas.sample import Sample
from posegen.body.cameras import look_at_camera
from posegen.body.joint_sets import SMPL24

SIZE = 64
# Rest joints of a person 1.6 m tall (24,3) m: standing, arms straight out to the sides, facing +z, left at +x, y up.
REST = np.array([
    [0, 0.95, 0], [0.1, 0.9, 0], [-0.1, 0.9, 0], [0, 1.05, 0], [0.1, 0.5, 0], [-0.1, 0.5, 0], [0, 1.15, 0],
    [0.1, 0.1, 0], [-0.1, 0.1, 0], [0, 1.25, 0], [0.1, 0.03, 0.12], [-0.1, 0.03, 0.12], [0, 1.45, 0], [0.08, 1.38, 0],
    [-0.08, 1.38, 0], [0, 1.6, 0.02], [0.18, 1.4, 0], [-0.18, 1.4, 0], [0.45, 1.4, 0], [-0.45, 1.4, 0], [0.7, 1.4, 0],
    [-0.7, 1.4, 0], [0.78, 1.4, 0], [-0.78, 1.4, 0],
], np.float64)  # fmt: skip


def at(name: str) -> int:
    return SMPL24.index(name)


def standing() -> np.ndarray:
    """Arms hanging: (24,3)."""
    joints = REST.copy()
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder = joints[at(f"{side}_shoulder")]
        for name, down in (("elbow", 0.27), ("wrist", 0.52), ("hand", 0.6)):
            joints[at(f"{side}_{name}")] = shoulder + [0.02 * sign, -down, 0]
    return joints


def arms_up() -> np.ndarray:
    joints = standing()
    for side in ("left", "right"):
        shoulder = joints[at(f"{side}_shoulder")]
        for name, up in (("elbow", 0.27), ("wrist", 0.52), ("hand", 0.6)):
            joints[at(f"{side}_{name}")] = shoulder + [0, up, 0]
    return joints


def bent_forward(degrees: float = 60.0) -> np.ndarray:
    """The upper body turned about the hips, the legs as they were; the pelvis leads halfway."""
    joints, angle = standing(), np.radians(degrees)
    legs = [at(f"{side}_{name}") for side in ("left", "right") for name in ("hip", "knee", "ankle", "foot")]
    upper = [index for index in range(24) if index not in legs]
    pivot = joints[[at("left_hip"), at("right_hip")]].mean(0)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    joints[upper] = (joints[upper] - pivot) @ turn.T + pivot
    return joints


def crouched() -> np.ndarray:
    """Thighs level, shins upright: the pelvis at the height of the knees."""
    joints = standing()
    for side in ("left", "right"):
        hip = joints[at(f"{side}_hip")].copy()
        joints[at(f"{side}_knee")] = hip + [0, 0, 0.4]
        joints[at(f"{side}_ankle")] = hip + [0, -0.4, 0.4]
        joints[at(f"{side}_foot")] = hip + [0, -0.47, 0.5]
    return joints


def lying() -> np.ndarray:
    """On the back: the body's up becomes -z, its front becomes up."""
    joints = standing() - standing()[0]
    turned = np.stack([joints[:, 0], joints[:, 2], -joints[:, 1]], -1)
    return turned - [0, turned[:, 1].min(), 0]


def sample_of_people(
    people: list[np.ndarray],
    azimuth_deg: list[float],
    elevation_deg: list[float],
    source: str = "pool",
    distance_m: float = 3.5,
) -> Sample:
    """A sample of grey pictures."""
    joints = torch.from_numpy(np.stack(people)).float()
    count = len(people)
    camera = look_at_camera(
        torch.deg2rad(torch.tensor(azimuth_deg)), torch.deg2rad(torch.tensor(elevation_deg)),
        torch.full((count,), distance_m), size_px=SIZE, target_m=joints.mean(1),
    )  # fmt: skip
    cam, px = camera.to_camera(joints).double().numpy(), camera.project(joints).double().numpy()
    rotation = camera.R.double().numpy()
    images = np.full((count, 3, SIZE, SIZE), 128, np.uint8)
    light = np.tile([0.0, 1.0, 0.0, 0.5, 0.5], (count, 1))
    numbers = pose_facts(joints.double().numpy()) | view_facts(cam, rotation, px, SIZE, SIZE)
    numbers |= light_facts(images, px, light, rotation)
    labels = {"subject": np.full(count, "ada"), "background": np.full(count, "room")}
    return Sample(
        np.full(count, source), np.arange(count), np.zeros((count, 24, 3), np.float32), cam, px, rotation,
        camera.focal.double().numpy(), camera.centre.double().numpy(), FactTable(numbers, labels),
    )  # fmt: skip


def measured_with(sample: Sample, errors_mm: np.ndarray) -> Measured:
    """Errors as wished: every joint but the pelvis off along x, all by the same."""
    joints = np.repeat(np.asarray(errors_mm, float)[:, None], 24, 1) * 24 / 23
    joints[:, 0] = 0.0
    shift = np.zeros((len(sample), 24, 3))
    shift[..., 0] = joints / 1000
    return Measured(
        sample.row_id, SMPL24.joints, joints, 0.5 * np.asarray(errors_mm, float), sample.joints_cam_m + shift
    )


def crowd(each: int = 40, seed: int = 0, source: str = "pool") -> tuple[Sample, np.ndarray]:
    """Three kinds of people, `each` of every kind, slightly shaken: standing from the front, bent forward from behind
    and above, lying from the side; and which kind each is of."""
    rng = np.random.default_rng(seed)
    kinds = ((standing(), 0.0, 0.0), (bent_forward(), 180.0, 45.0), (lying(), 90.0, 10.0))
    people, azimuth, elevation, kind = [], [], [], []
    for number, (joints, side, height) in enumerate(kinds):
        for _ in range(each):
            people.append(joints + rng.normal(0, 0.01, joints.shape))
            azimuth.append(float(side + rng.normal(0, 5)))
            elevation.append(float(height + rng.normal(0, 4)))
            kind.append(number)
    return sample_of_people(people, azimuth, elevation, source), np.array(kind)
