"""What a picture of a person is, in numbers: from where it is seen, from how far, how much is hidden, light, contrast.

Camera frame: OpenCV axes, metres. Pixels: u right, v down.

Dimensions: N pictures, J joints, E bones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from posegen.atlas.pose_facts import Numbers, trunk_axes
from posegen.body.joint_sets import LIMBS12, SMPL24

TRUNK_RADIUS_M, LIMB_RADIUS_M = 0.12, 0.06  # of the flesh about a bone, by which it hides what is behind it
_TRUNK = ("pelvis", "spine", "neck", "collar", "hip", "shoulder", "head")
_LUMINANCE = np.array([0.299, 0.587, 0.114])
BORDER = 0.1  # of the picture's side: what counts as its surroundings


def view_facts(
    joints_cam_m: Numbers, camera_R: Numbers, joints_px: Numbers, height_px: int, width_px: int
) -> dict[str, Numbers]:
    """Named numbers (N,) of where the camera stands and what it sees.

    Args:
        joints_cam_m: (N,24,3) camera frame; camera_R: (N,3,3) world -> camera; joints_px: (N,24,2).
    """
    joints = np.asarray(joints_cam_m, np.float64)
    axes, pelvis = trunk_axes(joints), joints[:, 0]
    towards = -pelvis / np.maximum(np.linalg.norm(pelvis, axis=-1, keepdims=True), 1e-9)
    x, y, z = ((towards * axes[..., column]).sum(-1) for column in range(3))
    up = np.asarray(camera_R, np.float64)[:, :, 1]  # the world's y axis in the camera's frame
    azimuth = np.degrees(np.arctan2(x, z))
    size = (joints_px.max(1) - joints_px.min(1)).max(-1) / max(height_px, width_px)
    beyond = (joints_px < 0) | (joints_px > np.array([width_px, height_px]))
    outside = np.asarray(beyond.any(-1))
    return {
        "azimuth_deg": azimuth,
        "from_front_deg": np.abs(azimuth),
        "elevation_deg": np.degrees(np.arcsin(np.clip((towards * up).sum(-1), -1, 1))),
        "along_trunk_deg": np.degrees(np.arcsin(np.clip(y, -1, 1))),
        "roll_deg": np.degrees(np.arctan2(up[:, 0], -up[:, 1])),
        "distance_m": np.linalg.norm(pelvis, axis=-1),
        "size": size,
        "cut_off": outside[:, _limb_indices()].mean(-1),
        "hidden": hidden_joints(joints)[:, _limb_indices()].mean(-1),
    }


def hidden_joints(joints_cam_m: Numbers) -> NDArray[np.bool_]:
    """(N,24,3) -> (N,24): whether the person's own trunk or another limb is before a joint, as seen by the camera.

    Bones are taken as thick lines. A joint is hidden where the line of sight to it passes such a bone nearer than the
    bone's radius, at a point that is more than that radius nearer to the camera than the joint.
    """
    edges = [(a, b) for a, b in SMPL24.edge_indices]
    radius = np.array([_radius(a, b) for a, b in edges])  # (E,)
    start, end = (joints_cam_m[:, [edge[k] for edge in edges]] for k in range(2))  # (N,E,3)
    distance = np.linalg.norm(joints_cam_m, axis=-1, keepdims=True)
    sight = joints_cam_m / np.maximum(distance, 1e-9)  # (N,J,3)
    own = np.array([[_near(joint, a, b) for a, b in edges] for joint in range(len(SMPL24))])  # (J,E)
    hidden = np.zeros(joints_cam_m.shape[:2], bool)
    for share in np.linspace(0.0, 1.0, 7):  # points along each bone
        point = start + share * (end - start)
        along = np.einsum("njk,nek->nje", sight, point)
        aside = np.sqrt(np.maximum((point * point).sum(-1)[:, None] - along**2, 0.0))
        hidden |= ((aside < radius) & (along < distance - 1.5 * radius) & ~own).any(-1)
    return hidden


def light_facts(images: NDArray[np.uint8], joints_px: Numbers, light: Numbers, camera_R: Numbers) -> dict[str, Numbers]:
    """Named numbers (N,) of a picture's light.

    Args:
        images: (N,3,H,W); joints_px: (N,24,2); light: (N,5) direction towards it in the world, ambient, diffuse;
            camera_R: (N,3,3).
    """
    count, _, height, width = images.shape
    grey = np.einsum("nchw,c->nhw", images.astype(np.float32), _LUMINANCE.astype(np.float32)) / 255.0
    points = np.concatenate([joints_px] + [(joints_px[:, [a]] + joints_px[:, [b]]) / 2 for a, b in SMPL24.edge_indices],
                            axis=1)  # fmt: skip
    column = np.clip(np.nan_to_num(points[..., 0]), 0, width - 1).astype(int)
    row = np.clip(np.nan_to_num(points[..., 1]), 0, height - 1).astype(int)
    person = grey[np.arange(count)[:, None], row, column].mean(1)
    rim = np.ones((height, width), bool)
    edge_v, edge_u = max(1, round(BORDER * height)), max(1, round(BORDER * width))
    rim[edge_v : height - edge_v, edge_u : width - edge_u] = False
    around = grey[:, rim].mean(1)
    in_camera = np.einsum("nij,nj->ni", camera_R, light[:, :3])
    return {
        "brightness": grey.mean((1, 2)).astype(np.float64),
        "person_brightness": person.astype(np.float64),
        "contrast": np.abs(person - around).astype(np.float64),
        "ambient": np.asarray(light[:, 3], np.float64),
        # The light's direction against the line of sight: 0 behind the camera, 180 behind the person.
        "light_behind_deg": np.degrees(np.arccos(np.clip(-in_camera[:, 2], -1, 1))),
    }


def _limb_indices() -> list[int]:
    return [SMPL24.index(name) for name in LIMBS12.joints]


def _radius(a: int, b: int) -> float:
    names = [SMPL24.joints[index] for index in (a, b)]
    trunk = all(any(part in name for part in _TRUNK) for name in names)
    return TRUNK_RADIUS_M if trunk else LIMB_RADIUS_M


def _near(joint: int, a: int, b: int) -> bool:
    """Whether a joint is of a bone or next to it: its own flesh does not hide it."""
    if joint in (a, b):
        return True
    neighbours = {other for edge in SMPL24.edge_indices if joint in edge for other in edge}
    return a in neighbours or b in neighbours
