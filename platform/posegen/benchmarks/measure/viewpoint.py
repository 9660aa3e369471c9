"""From where a camera sees a body, told from the body's own axes (posegen.body.cameras.viewing_angles)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from posegen.body.cameras import viewing_angles
from posegen.body.joint_sets import JointSet

_NEEDED = ("left_hip", "right_hip", "left_shoulder", "right_shoulder")


def body_axes(joints: Tensor, names: JointSet) -> Tensor | None:
    """Body -> camera rotation (B,3,3) from joints (B,J,3): x to the left hip, y from hips to shoulders, z forwards.

    None where the joint set has no hips and shoulders.
    """
    if any(joint not in names.joints for joint in _NEEDED):
        return None
    left_hip, right_hip, left_shoulder, right_shoulder = (joints[:, names.index(joint)] for joint in _NEEDED)
    up = F.normalize((left_shoulder + right_shoulder - left_hip - right_hip) / 2, dim=-1)
    across = (left_hip - right_hip) + (left_shoulder - right_shoulder)
    left = F.normalize(across - (across * up).sum(-1, keepdim=True) * up, dim=-1)
    return torch.stack([left, up, torch.linalg.cross(left, up, dim=-1)], -1)


def view_of_joints(joints_cam: Tensor, names: JointSet) -> tuple[Tensor, Tensor] | None:
    """Azimuth and elevation (B,), (B,) rad of the camera about the trunk, for joints (B,J,3) in the camera's frame."""
    axes = body_axes(joints_cam, names)
    if axes is None:
        return None
    identity = torch.eye(3, dtype=joints_cam.dtype).expand(len(joints_cam), 3, 3)
    return viewing_angles(identity, axes)
