"""Which way is up: what of a view is the camera's elevation and what is the person's tilt.

Turning person and camera together leaves every pixel where it is, so the picture itself does not say. Three things do:
cameras are mostly level and seldom rolled; a pose comes with the tilt that it has in the pool of real motion, with a
few exceptions; and a person on a floor stands above what touches it. All are evaluated on a grid of elevations and
rolls; the answer is the posterior's mean with its spread.

Dimensions: B hypotheses, G cells of the grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from posegen.body.joint_sets import SMPL24
from posegen.target.lift.config import LiftConfig
from posegen.target.lift.parameters import camera_rotation

ELEVATIONS_DEG = tuple(range(-70, 90, 5))
ROLLS_DEG = tuple(range(-20, 25, 5))
# What people touch the floor with.
CONTACTS = tuple(
    SMPL24.index(name)
    for name in ("left_foot", "right_foot", "left_ankle", "right_ankle", "left_knee", "right_knee", "pelvis",
                 "left_hand", "right_hand", "left_elbow", "right_elbow", "head")
)  # fmt: skip
# Share of the body's mass near a joint, after the segments of Winter 2009, Biomechanics, table 4.1.
MASS = {
    "pelvis": 0.14, "spine1": 0.10, "spine2": 0.10, "spine3": 0.12, "neck": 0.03, "head": 0.06, "left_hip": 0.06,
    "right_hip": 0.06, "left_knee": 0.07, "right_knee": 0.07, "left_ankle": 0.03, "right_ankle": 0.03,
    "left_shoulder": 0.03, "right_shoulder": 0.03, "left_elbow": 0.022, "right_elbow": 0.022, "left_wrist": 0.013,
    "right_wrist": 0.013,
}  # fmt: skip
TOUCH_M = 0.05  # joints this much above the lowest count e times less as support


@dataclass(frozen=True)
class Upright:
    """Camera angles (B,) rad with their spreads, and the log evidence of the world's priors."""

    elevation: Tensor
    roll: Tensor
    elevation_spread: Tensor
    log_evidence: Tensor


def upright(joints_cam_m: Tensor, root_cam: Tensor, up_in_body: Tensor, config: LiftConfig) -> Upright:
    """The camera's angles for people in its frame.

    Args:
        joints_cam_m: (B,24,3), the pelvis anywhere; root_cam: (B,3,3) body -> camera.
        up_in_body: (B,3) unit, the world's up in the frame of the pelvis as the pool's pose has it.
    """
    e, r = torch.meshgrid(
        torch.deg2rad(torch.tensor(ELEVATIONS_DEG, dtype=torch.float32)),
        torch.deg2rad(torch.tensor(ROLLS_DEG, dtype=torch.float32)), indexing="ij",
    )  # fmt: skip
    e, r = e.flatten(), r.flatten()
    rotation, _, _ = camera_rotation(e, r)  # (G,3,3) world -> camera
    log_p = torch.zeros(len(root_cam), len(e)) + e.cos().log()  # the same density on every part of the sphere
    for angle, (mean, spread) in ((e, config.elevation_deg), (r, config.roll_deg)):
        log_p = log_p - 0.5 * ((angle - math.radians(mean)) / math.radians(spread)).square()
    expected = (root_cam @ up_in_body[..., None])[..., 0]  # up in the camera's frame if the pose has the pool's tilt
    tilt = torch.acos((expected @ rotation[:, :, 1].T).clamp(-1, 1))
    log_p = log_p + tilt_log_density(tilt, config)
    log_p = log_p - config.floor_weight * imbalance(joints_cam_m, rotation, config.floor_m)
    log_evidence = torch.logsumexp(log_p, 1)
    p = (log_p - log_evidence[:, None]).exp()
    elevation, roll = p @ e, p @ r
    return Upright(elevation, roll, (p @ e.square() - elevation.square()).clamp_min(0).sqrt(), log_evidence)


def tilt_log_density(tilt_rad: Tensor, config: LiftConfig) -> Tensor:
    """Mostly the pool's own tilt within tilt_deg, sometimes (odd_tilts) any orientation: log density on the sphere."""
    sigma = math.radians(config.tilt_deg)
    near = (1 - config.odd_tilts) * torch.exp(-0.5 * (tilt_rad / sigma).square()) / (2 * math.pi * sigma**2)
    return (near + config.odd_tilts / (4 * math.pi)).log()


def imbalance(joints_cam_m: Tensor, rotation: Tensor, floor_m: float) -> Tensor:
    """(B,G): how far the centre of mass is from above its support, Cauchy of half squares in units of floor_m."""
    world = torch.einsum("bjc,gck->bgjk", joints_cam_m, rotation)  # R^T j
    contacts = world[:, :, list(CONTACTS)]
    support = torch.softmax(-contacts[..., 1] / TOUCH_M, 2)
    mass = torch.tensor([MASS.get(name, 0.0) for name in SMPL24.joints])
    centre = torch.einsum("j,bgjk->bgk", mass / mass.sum(), world)
    gap = centre - (support[..., None] * contacts).sum(2)
    return 0.5 * torch.log1p((gap[..., 0].square() + gap[..., 2].square()) / floor_m**2)
