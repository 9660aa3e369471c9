"""A body's own axes, told from its joints: from where a camera sees it, and whether it is seen the wrong way round."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from posegen.body.cameras import viewing_angles
from posegen.body.joint_sets import JointSet

TRUNK = ("left_hip", "right_hip", "left_shoulder", "right_shoulder")


def body_axes(joints: Tensor, names: Sequence[str]) -> Tensor | None:
    """Body -> camera rotation (B,3,3) from joints (B,J,3): x to the left hip, y from hips to shoulders, z forwards.

    None where hips and shoulders are not among the names (J).
    """
    if any(joint not in names for joint in TRUNK):
        return None
    left_hip, right_hip, left_shoulder, right_shoulder = (joints[:, names.index(joint)] for joint in TRUNK)
    up = F.normalize((left_shoulder + right_shoulder - left_hip - right_hip) / 2, dim=-1)
    across = (left_hip - right_hip) + (left_shoulder - right_shoulder)
    left = F.normalize(across - (across * up).sum(-1, keepdim=True) * up, dim=-1)
    return torch.stack([left, up, torch.linalg.cross(left, up, dim=-1)], -1)


def view_of_joints(joints_cam: Tensor, names: JointSet, valid: Tensor | None = None) -> tuple[Tensor, Tensor] | None:
    """Azimuth and elevation (B,), (B,) rad of the camera about the trunk, for joints (B,J,3) in the camera's frame.

    NaN where one of the trunk's joints does not count (`valid (B,J)`).
    """
    axes = body_axes(joints_cam, names.joints)
    if axes is None:
        return None
    identity = torch.eye(3, dtype=joints_cam.dtype).expand(len(joints_cam), 3, 3)
    azimuth, elevation = viewing_angles(identity, axes)
    if valid is not None:
        known = _trunk_known(valid, names.joints)
        azimuth, elevation = (torch.where(known, angle, torch.nan) for angle in (azimuth, elevation))
    return azimuth, elevation


def wrong_way_round(
    prediction: Tensor, truth: Tensor, names: Sequence[str], valid: Tensor | None = None
) -> Tensor | None:
    """Who is seen the wrong way round, mostly a back taken for a front: joints (B,J,3) -> (B,) %, float64, 100 or 0.

    It is 100 where the predicted person's left, square to the trunk, is more than 90 degrees from the true one's. NaN
    where a joint of the trunk does not count (`valid (B,J)`); None where hips and shoulders are not among names (J).
    """
    found, true = body_axes(prediction, names), body_axes(truth, names)
    if found is None or true is None:
        return None
    wrong = 100.0 * ((found[..., 0] * true[..., 0]).sum(-1) < 0).to(torch.float64)
    return wrong if valid is None else torch.where(_trunk_known(valid, names), wrong, torch.nan)


def _trunk_known(valid: Tensor, names: Sequence[str]) -> Tensor:
    return valid[:, [names.index(joint) for joint in TRUNK]].all(-1)
