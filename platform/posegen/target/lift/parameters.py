"""The unknowns of a lifted person and camera, where each lies in a vector, and their places in space with derivatives.

The person's world: the camera looks along -z at a person whose middle is the origin (azimuth 0; which way the person
faces is in its root). The principal point is the middle of the person's box: a picture of a person who is off the
centre is treated as if the camera were turned towards it.

Dimensions: B hypotheses, M points, P = 78 + S unknowns, S shape components.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.body.kinematics import forward_kinematics, tree_levels
from posegen.body.model import BodyModel
from posegen.body.rotations import aa_to_matrix, skew
from posegen.target.lift.points import BodyPoints

ROOT = slice(0, 3)  # rad, world axes, turns the dictionary's root
JOINTS = slice(3, 72)  # rad, axis-angle of the 23 other joints
ELEVATION, ROLL, LOG_DEPTH, LOG_SCALE = 72, 73, 74, 75
SHIFT = slice(76, 78)  # m, of the pelvis across the view
SHAPE = slice(78, None)
FIXED = 78
MIN_DEPTH_SHARE = 0.25  # points nearer than this share of the pelvis' depth are held there


@dataclass(frozen=True)
class Seen:
    """Points of B hypotheses as their cameras see them."""

    points: Tensor  # (B,M,2) in sides of the box, from its middle
    jacobian: Tensor | None  # (B,M,2,P)


def camera_rotation(elevation: Tensor, roll: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """World -> camera (B,3,3) at azimuth 0 as look_at_camera has it, and its derivatives by elevation and roll."""
    zero, one = torch.zeros_like(elevation), torch.ones_like(elevation)
    sin, cos = elevation.sin(), elevation.cos()
    right, down, forward = (
        torch.stack(v, -1) for v in ((one, zero, zero), (zero, -cos, sin), (zero, -sin, -cos))
    )  # fmt: skip
    d_down, d_forward = torch.stack((zero, sin, cos), -1), torch.stack((zero, -cos, sin), -1)
    c, s = roll.cos()[:, None], roll.sin()[:, None]
    rotation = torch.stack([c * right - s * down, s * right + c * down, forward], -2)
    by_elevation = torch.stack([-s * d_down, c * d_down, d_forward], -2)
    by_roll = torch.stack([-s * right - c * down, c * right - s * down, torch.zeros_like(forward)], -2)
    return rotation, by_elevation, by_roll


def left_jacobian(phi: Tensor) -> Tensor:
    """J_l(phi) (...,3,3): exp(phi + d) = exp(J_l d) exp(phi) to first order; J_r(phi) = J_l(-phi).

    Barfoot 2017, State Estimation for Robotics, equation 7.77.
    """
    sq = (phi * phi).sum(-1)
    small = sq < 1e-4
    safe = torch.where(small, torch.ones_like(sq), sq)
    angle = safe.sqrt()
    a = torch.where(small, 0.5 - sq / 24, (1 - angle.cos()) / safe)
    b = torch.where(small, 1 / 6 - sq / 120, (angle - angle.sin()) / (safe * angle))
    k = skew(phi)
    return torch.eye(3, dtype=phi.dtype, device=phi.device) + a[..., None, None] * k + b[..., None, None] * (k @ k)


class Kinematics:
    """Places the points of hypotheses in their pictures.

    Args:
        body: gives rest joints and their directions of shape.
        points: which points are seen.
        shapes: how many components of shape are unknown.
    """

    def __init__(self, body: BodyModel, points: BodyPoints, shapes: int = 0) -> None:
        self.points, self.shapes = points, shapes
        self.rest = body.rest_template.detach().float()
        self.rest = self.rest - self.rest[:1]
        directions = body.rest_directions.detach().float()[..., :shapes]
        self.directions = directions - directions[:1]  # (24,3,S)

    @property
    def unknowns(self) -> int:
        return FIXED + self.shapes

    def rotations(self, x: Tensor, root0: Tensor) -> Tensor:
        """Rotations relative to the parents (B,24,3,3), the root's in the world."""
        local = aa_to_matrix(x[:, JOINTS].reshape(-1, 23, 3))
        return torch.cat([(aa_to_matrix(x[:, ROOT]) @ root0)[:, None], local], 1)

    def posed(self, x: Tensor, root0: Tensor) -> tuple[Tensor, Tensor]:
        """Global rotations (B,24,3,3) and joints (B,24,3) m, the pelvis at the origin."""
        rest = self.rest + torch.einsum("jck,bk->bjc", self.directions, x[:, SHAPE])
        return forward_kinematics(self.rotations(x, root0), rest)

    def see(self, x: Tensor, root0: Tensor, derivatives: bool = True) -> Seen:
        """Unknowns x (B,P) and the dictionary's roots (B,3,3) -> the points as seen."""
        turned, joints = self.posed(x, root0)
        places = self.points.of(joints, turned)  # (B,Q,3)
        world = self.points.joint @ places  # (B,M,3)
        rotation, by_elevation, by_roll = camera_rotation(x[:, ELEVATION], x[:, ROLL])
        cam = world @ rotation.mT
        depth = x[:, LOG_DEPTH].exp()[:, None]
        z = (cam[..., 2] + depth).clamp_min(MIN_DEPTH_SHARE * depth)
        gain = (x[:, LOG_SCALE].exp()[:, None] * depth / z)[..., None]
        across = cam[..., :2] + x[:, None, SHIFT]
        points = gain * across
        if not derivatives:
            return Seen(points, None)
        # d points / d camera-frame place: rows of gain * [1, 0, -u/z; 0, 1, -v/z].
        to_points = torch.zeros(*points.shape, 3, dtype=x.dtype)  # (B,M,2,3)
        to_points[..., 0, 0] = to_points[..., 1, 1] = gain[..., 0]
        to_points[..., 2] = -points / z[..., None]
        to_world = to_points @ rotation[:, None]
        jacobian = x.new_zeros(*points.shape, self.unknowns)
        self._by_pose(jacobian, to_world, x, turned, joints, places)
        jacobian[..., ELEVATION] = (to_points @ (world @ by_elevation.mT)[..., None])[..., 0]
        jacobian[..., ROLL] = (to_points @ (world @ by_roll.mT)[..., None])[..., 0]
        jacobian[..., LOG_DEPTH] = points * (1 - depth / z)[..., None]
        jacobian[..., LOG_SCALE] = points
        jacobian[..., 0, 76] = jacobian[..., 1, 77] = gain[..., 0]
        if self.shapes:
            jacobian[..., SHAPE] = to_world @ self._by_shape(turned)
        return Seen(points, jacobian)

    def _by_pose(self, out: Tensor, to_world: Tensor, x: Tensor, turned: Tensor, joints: Tensor, places: Tensor):
        """A turn w of joint j in its own frame moves a point p that follows it by (G_j w) x (p - p_j)."""
        moved = self.points.moved  # (M,24,Q)
        arms = torch.einsum("mjq,bqc->bjmc", moved, places) - moved.sum(-1).T[None, ..., None] * joints[:, :, None]
        rows = to_world[:, None]  # (B,1,M,2,3)
        lever = torch.linalg.cross(arms[..., None, :].expand(*arms.shape[:3], 2, 3), rows.expand(-1, 24, -1, -1, -1))
        local = turned[:, 1:] @ left_jacobian(-x[:, JOINTS].reshape(-1, 23, 3))
        frames = torch.cat([left_jacobian(x[:, ROOT])[:, None], local], 1)  # (B,24,3,3)
        batch, _, m = arms.shape[:3]
        by = lever.reshape(batch, 24, 2 * m, 3) @ frames
        out[..., :72] = by.reshape(batch, 24, m, 2, 3).permute(0, 2, 3, 1, 4).reshape(batch, m, 2, 72)

    def _by_shape(self, turned: Tensor) -> Tensor:
        """d world points / d shape (B,M,3,S)."""
        moved = [turned.new_zeros(len(turned), 3, self.shapes)] * 24
        for children, parents in tree_levels():
            for joint, parent in zip(children, parents, strict=True):
                step = self.directions[joint] - self.directions[parent]
                moved[joint] = moved[parent] + turned[:, parent] @ step
        joints = torch.stack(moved, 1)
        fixed = joints[:, self.points.anchors]
        return torch.einsum("mq,bqcs->bmcs", self.points.joint, torch.cat([joints, fixed], 1))
