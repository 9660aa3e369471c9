"""What a pose is, in numbers that have names: how far the trunk leans, how deep the person crouches, where arms are.

All are taken from joints alone, so that they mean the same for every body, and most are angles or shares of a limb, so
that a person's size does not matter. World: metres, y up.

Dimensions: N people.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from posegen.benchmarks.measure.viewpoint import body_axes
from posegen.body.joint_sets import SMPL24

Numbers = NDArray[np.float64]
SIDES = ("left", "right")
_UP = np.array([0.0, 1.0, 0.0])


def trunk_axes(joints_m: Numbers) -> Numbers:
    """(N,24,3) of any frame -> (N,3,3), columns: to the person's left, from hips to shoulders, forwards."""
    axes = body_axes(torch.from_numpy(np.ascontiguousarray(joints_m, dtype=np.float64)), SMPL24.joints)
    assert axes is not None  # SMPL's joints have hips and shoulders
    return axes.numpy()


def pose_facts(joints_m: Numbers) -> dict[str, Numbers]:
    """Joints (N,24,3) in the world -> named numbers (N,), see posegen.atlas.facts.KNOWN for what each means."""
    joints_m = np.asarray(joints_m, np.float64)
    axes = trunk_axes(joints_m)
    left, up, forward = (axes[..., column] for column in range(3))
    hips = _unit(_at(joints_m, "left_hip") - _at(joints_m, "right_hip"))
    ahead = _unit(np.cross(hips, _UP))  # where the hips face, level
    lean = np.degrees(np.arctan2(_dot(up, ahead), up[:, 1]))
    found: dict[str, Numbers] = {
        "trunk_tilt_deg": _angle(up, np.broadcast_to(_UP, up.shape)),
        "lean_forward_deg": lean,
        "twist_deg": _angle(hips, _unit(_at(joints_m, "left_shoulder") - _at(joints_m, "right_shoulder"))),
    }
    thigh, shin, arm = {}, {}, {}
    for side in SIDES:
        hip, knee, ankle = (_at(joints_m, f"{side}_{name}") for name in ("hip", "knee", "ankle"))
        shoulder, elbow, wrist = (_at(joints_m, f"{side}_{name}") for name in ("shoulder", "elbow", "wrist"))
        thigh[side], shin[side], arm[side] = knee - hip, ankle - knee, wrist - shoulder
        found[f"{side}_hip_bend_deg"] = _angle(knee - hip, -up)
        found[f"{side}_knee_bend_deg"] = _angle(knee - hip, ankle - knee)
        found[f"{side}_elbow_bend_deg"] = _angle(elbow - shoulder, wrist - elbow)
        length = np.linalg.norm(elbow - shoulder, axis=-1) + np.linalg.norm(wrist - elbow, axis=-1)
        outwards = left if side == "left" else -left
        for name, axis in (("height", up), ("outwards", outwards), ("ahead", forward)):
            found[f"{side}_arm_{name}"] = _dot(arm[side], axis) / np.maximum(length, 1e-9)
    legs = np.mean([np.linalg.norm(thigh[s], axis=-1) + np.linalg.norm(shin[s], axis=-1) for s in SIDES], axis=0)
    legs = np.maximum(legs, 1e-9)
    pelvis, lowest = _at(joints_m, "pelvis")[:, 1], joints_m[..., 1].min(1)
    ankles = np.stack([_at(joints_m, f"{side}_ankle")[:, 1] for side in SIDES])
    wide = np.maximum(np.linalg.norm(_at(joints_m, "left_shoulder") - _at(joints_m, "right_shoulder"), axis=-1), 1e-9)
    found["pelvis_height"] = (pelvis - lowest) / legs
    found["legs_apart_deg"] = _angle(thigh["left"], thigh["right"])
    found["foot_lift"] = np.abs(ankles[0] - ankles[1]) / legs
    found["wrists_apart"] = _dot(_at(joints_m, "left_wrist") - _at(joints_m, "right_wrist"), left) / wide
    found["wrist_gap"] = np.linalg.norm(_at(joints_m, "left_wrist") - _at(joints_m, "right_wrist"), axis=-1) / wide
    for name in ("hip", "knee", "elbow"):
        found[f"{name}_bend_most_deg"] = np.maximum(found[f"left_{name}_bend_deg"], found[f"right_{name}_bend_deg"])
    found["arm_height_most"] = np.maximum(found["left_arm_height"], found["right_arm_height"])
    return found


def _at(joints_m: Numbers, name: str) -> Numbers:
    return joints_m[:, SMPL24.index(name)]


def _dot(a: Numbers, b: Numbers) -> Numbers:
    return (a * b).sum(-1)


def _unit(vectors: Numbers) -> Numbers:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _angle(a: Numbers, b: Numbers) -> Numbers:
    """Degrees between vectors (N,3) and (N,3)."""
    return np.degrees(np.arccos(np.clip(_dot(_unit(a), _unit(b)), -1.0, 1.0)))
